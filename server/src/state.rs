//! What every handler is given.

use crate::{
    ApiError, ApiKeys, FragmentNames, Generations, Limits, Metrics, Profile, SideContexts, Time,
    limits::PUTS_MAX,
    sources::{Allowed, Sources},
};
use engine::Engine;
use models::{Tokenizer, Turns};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The model as the API names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// The name clients use.
    pub id: String,
    /// Its architecture (`llama`, `qwen2`, ..).
    pub arch: String,
    /// When it was loaded, in Unix seconds.
    pub created: u64,
}

/// What an [`AppState`] is made of.
pub struct Parts {
    /// The running engine.
    pub engine: Engine,
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The model's chat template.
    pub turns: Arc<Turns>,
    /// The model's name.
    pub model: ModelInfo,
    /// Who may call.
    pub keys: ApiKeys,
    /// The time.
    pub time: Time,
    /// Bounds.
    pub limits: Limits,
    /// What was found out about the model.
    pub profile: Profile,
    /// What side contexts may be fed from.
    pub allowed: Allowed,
    /// Names that clients gave to fragments.
    pub fragment_names: FragmentNames,
}

/// What every handler is given.
pub struct AppState {
    /// The running engine.
    pub engine: Engine,
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The model's chat template.
    pub turns: Arc<Turns>,
    /// The model's name.
    pub model: ModelInfo,
    /// Who may call.
    pub keys: ApiKeys,
    /// The time.
    pub time: Time,
    /// Bounds.
    pub limits: Limits,
    /// What was found out about the model.
    pub profile: Profile,
    /// Generations, running and ended.
    pub generations: Generations,
    /// Names that clients gave to fragments.
    pub fragment_names: FragmentNames,
    /// Side contexts.
    pub side_contexts: SideContexts,
    /// What they may be fed from.
    pub sources: Sources,
    /// Counters, gauges, histograms.
    pub metrics: Arc<Metrics>,
    /// Puts of fragments that may hold a thread.
    pub(crate) puts: Arc<Semaphore>,
}

impl AppState {
    /// Adds what the server keeps to what it was given.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { engine, tokenizer, turns, model, keys, time, limits, profile, .. } = parts;
        let Parts { allowed, fragment_names, .. } = parts;
        let metrics = Arc::new(Metrics::new());
        let generations = Generations::new(engine.clone(), time.clone(), Arc::clone(&metrics));
        Arc::new(Self {
            engine,
            tokenizer,
            turns,
            model,
            keys,
            time,
            limits,
            profile,
            generations,
            fragment_names,
            side_contexts: SideContexts::new(),
            sources: Sources::new(allowed),
            metrics,
            puts: Arc::new(Semaphore::new(PUTS_MAX)),
        })
    }
}

/// Runs `work` where it may block: the engine's blocking calls, tokenization, templates.
///
/// When the caller goes away, `work` still ends, and what it made is dropped.
pub async fn blocking<T, F>(work: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, ApiError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ApiError::internal(format!("the request's work panicked: {error}"))),
    }
}

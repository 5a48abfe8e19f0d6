//! From a checked configuration to a running engine: what `serve`, `generate`, `doctor` and `demo`
//! begin with.

use crate::{EngineConfig, progress::FetchProgress};
use anyhow::Context as _;
use engine::{Clock, Config, Engine};
use models::{LoadOptions, Loaded, ModelInfo, Tokenizer, Turns, catalogue};
use std::{path::Path, sync::Arc};

/// A loaded model and the engine over it.
pub struct Running {
    /// Owns the decoder; its loop runs.
    pub engine: Engine,
    /// Text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// The chat template.
    pub turns: Arc<Turns>,
    /// What the model is.
    pub info: ModelInfo,
    /// What clients call it: its catalogue name, or its file's.
    pub name: String,
}

impl Running {
    /// Fetches the model where it is not cached, loads it, and starts the engine.
    pub fn start(config: &EngineConfig, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let mut progress = FetchProgress::new();
        let path = catalogue::fetch(&config.model, &mut progress)?;
        drop(progress);
        let options = LoadOptions {
            threads: config.threads,
            kv_dtype: config.kv_dtype,
            kv_bytes: usize::try_from(config.kv_memory.0).unwrap_or(usize::MAX),
            context_max: config.context,
            ..LoadOptions::default()
        };
        let loaded = models::load(&path, &options);
        let Loaded { decoder, tokenizer, turns, info } =
            loaded.with_context(|| format!("cannot load {}", path.display()))?;
        let bounds = Config {
            waiting_max: config.waiting_max,
            running_max: config.running_max,
            prefill_rows_per_step: options.batch_rows_max,
            fragments_max: FRAGMENTS_MAX,
        };
        let model = Box::new(decoder);
        let engine = Engine::start(model, Some(Arc::clone(&tokenizer)), bounds, clock);
        let name = client_name(&config.model, &path);
        Ok(Self { engine, tokenizer, turns: Arc::new(turns), info, name })
    }
}

/// A catalogue name as it is; for a path or a hub file, the file's name without its ending.
fn client_name(asked: &str, path: &Path) -> String {
    let is_name = !asked.contains(['/', '\\', ':']) && !Path::new(asked).exists();
    let stem = || {
        let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
        stem.map(|stem| stem.to_string_lossy().into_owned())
    };
    if is_name { asked.to_owned() } else { stem().unwrap_or_else(|| asked.to_owned()) }
}

/// Fragments known at once; each is some hundred bytes and its tokens, apart from its KV.
const FRAGMENTS_MAX: usize = 65_536;

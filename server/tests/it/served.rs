//! A real model of the catalogue behind the router, in memory.

use axum::Router;
use cento::{ApiKeys, AppState, FragmentNames, Limits, ModelInfo, Parts, Profile, Time, app};
use engine::{Config, Engine};
use models::{LoadOptions, catalogue};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Held by the test that runs one: a model's threads spin, and those of two wait for each other.
pub(crate) static MACHINE: Mutex<()> = Mutex::const_new(());

/// The model by that name, fetched where it is not cached.
pub(crate) fn model(name: &str) -> Router {
    model_with(name, &LoadOptions::default())
}

/// The same, held and run as `options` say.
pub(crate) fn model_with(name: &str, options: &LoadOptions) -> Router {
    let path = catalogue::fetch(name, &mut catalogue::Quiet).unwrap_or_else(|error| {
        panic!("this test needs the model {name}: {error}");
    });
    let loaded = models::load(&path, options).expect("a model that loads");
    let time = Time::system();
    let tokenizer = loaded.tokenizer;
    let model = Box::new(loaded.decoder);
    let bounds = Config::default();
    let engine = Engine::start(model, Some(Arc::clone(&tokenizer)), bounds, time.clock());
    app(AppState::new(Parts {
        allowed: cento::sources::Allowed::default(),
        fragment_names: FragmentNames::new(),
        profile: Profile::default(),
        engine,
        turns: Arc::new(loaded.turns),
        tokenizer,
        model: ModelInfo { id: name.into(), arch: loaded.info.arch, created: 1 },
        keys: ApiKeys::default(),
        time,
        limits: Limits::DEFAULT,
    }))
}

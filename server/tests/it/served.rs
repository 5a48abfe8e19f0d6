//! A real model of the catalogue behind the router, in memory.

use axum::Router;
use cento::{
    ApiKeys, AppState, Args, Command, FragmentNames, Limits, Local, ModelInfo, Parts, Profile,
    ServeConfig, Time, app,
};
use clap::Parser as _;
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
    let (tokenizer, time) = (loaded.tokenizer, Time::system());
    let model = Box::new(loaded.decoder);
    let bounds = Config::default();
    let engine = Engine::start(model, Some(Arc::clone(&tokenizer)), bounds, time.clock());
    router(name, Local { engine, tokenizer, turns: loaded.turns, info: loaded.info })
}

/// What `cento serve` serves when this stands after it.
pub(crate) fn serve(line: &str) -> Router {
    let line = format!("cento serve {line}");
    let Command::Serve(args) = Args::parse_from(line.split_whitespace()).command else {
        panic!("{line} serves nothing");
    };
    let config = ServeConfig::try_from(args).unwrap();
    let loaded = cento::load(&config.engine).expect("a model that loads");
    let host_kv = cento::host_kv(&loaded, &config);
    let tier = cento::tier(&loaded, &config, host_kv).unwrap();
    router(&config.engine.model, Local::start_over(loaded, &config.engine, tier))
}

fn router(name: &str, local: Local) -> Router {
    let Local { engine, tokenizer, turns, info } = local;
    app(AppState::new(Parts {
        allowed: cento::sources::Allowed::default(),
        fragment_names: FragmentNames::new(),
        profile: Profile::default(),
        engine,
        turns: Arc::new(turns),
        tokenizer,
        model: ModelInfo { id: name.into(), arch: info.arch, created: 1 },
        keys: ApiKeys::default(),
        time: Time::system(),
        limits: Limits::DEFAULT,
    }))
}

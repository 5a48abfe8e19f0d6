//! The server: command line, configuration, HTTP. Turns what was typed or sent into the engine's
//! plain data and back.
//!
//! `app` turns an [`AppState`] into a router, so that tests call it in memory. JSON is validated
//! here, once, into `engine::Request`. Does not know what a page is.

#![forbid(unsafe_code)]

pub mod api;
mod app;
mod args;
mod auth;
mod bytes;
pub mod commands;
mod config;
pub mod error;
pub mod extract;
mod fragment_names;
mod generations;
mod host_memory;
pub mod limits;
mod live;
mod local;
mod metrics;
pub mod openapi;
mod profile;
mod progress;
mod random;
mod serving;
pub mod side;
mod snapshot;
pub mod sources;
pub mod sse;
mod standing;
mod state;
mod time;

pub use app::app;
pub use args::{Args, Command};
pub use auth::{ApiKeys, Tenant};
pub use bytes::Bytes;
pub use config::{CacheConfig, ConfigError, EngineConfig, GenerateConfig, ServeConfig};
pub use error::ApiError;
pub use extract::JsonBody;
pub use fragment_names::{FragmentName, FragmentNames};
pub use generations::{Entry, Generation, Generations, Options, Reader};
pub use limits::Limits;
pub use live::{Binding, Swapped};
pub use local::{Local, host_kv, load, tier};
pub use metrics::Metrics;
pub use profile::{Parallel, Profile};
pub use progress::FetchProgress;
pub use random::{random_id, random_seed};
pub use serving::{Ended, serve};
pub use side::SideContexts;
pub use snapshot::{Snapshot, Status};
pub use standing::{FragmentUse, SideUse};
pub use state::{AppState, ModelInfo, Parts, blocking};
pub use time::{SystemClock, Time};

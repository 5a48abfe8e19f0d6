//! The server: command line, configuration, HTTP. Turns what was typed or sent into the engine's
//! plain data and back.
//!
//! Does not know what a page is.

#![forbid(unsafe_code)]

mod args;
mod bytes;
pub mod commands;
mod config;

pub use args::Args;
pub use bytes::Bytes;
pub use config::{ConfigError, EngineConfig, GenerateConfig, ServeConfig};

//! The engine: fragments, compositions, join policies, sequences and the scheduler.
//!
//! One plain thread runs one loop of four verbs: receive, plan, run, commit.
//! Does no I/O, reads no clock but the one it is given, and knows neither HTTP nor JSON.

mod api;
pub mod gates;
mod handle;

pub use api::*;
pub use handle::{Clock, Config, Engine, SequenceId, Sink};

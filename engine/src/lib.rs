//! The engine: fragments, compositions, join policies, sequences and the scheduler.
//!
//! One plain thread runs one loop of four verbs: receive, plan, run, commit (`step.rs`).
//! The loop does no I/O (tiers have threads of their own), reads no clock but the one it is
//! given, and knows neither HTTP nor JSON.
//! `plan` is pure; only `commit` changes who owns a page; only the runner calls the model.

#![forbid(unsafe_code)]

mod alike;
mod api;
mod asked;
mod board;
mod commit;
mod fragments;
pub mod gates;
mod handle;
mod job;
mod limits;
mod overlays;
mod pages;
mod plan;
mod policy;
mod prefix;
mod priority;
mod queue;
mod repair;
mod rows;
mod runner;
mod sampling;
mod scheduler;
mod sealed;
mod sequence;
mod state;
mod step;
mod stored;
mod swap;
mod text;
mod tier;
mod validate;

pub use api::*;
pub use handle::{Clock, Config, Engine, SequenceId, Sink};
pub use policy::{Form, JoinPolicy, Parameter, PolicyError};
pub use priority::Priority;
pub use sealed::{Seal, Sealed};
pub use step::Core;
pub use swap::Swap;
pub use tier::{
    Disk, DiskConfig, DiskError, Entry, Figures, Host, Kv, Layered, Notice, Origin,
    SHARED_ROWS_MIN, Shared, SharedConfig, SharedError, StoreUrl, Tier, UrlError,
};

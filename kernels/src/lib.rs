//! The kernels of Cento: one folder per op, the page layout of KV memory, and SIMD dispatch.
//!
//! Each op folder holds `mod.rs` (the public function: formula, shapes, choice of variant),
//! `reference.rs` (plain loops accumulating in f64: the specification), `cpu.rs` (the fast path)
//! and `cases.rs` (the shapes and inputs that drive both tests and benches).
//!
//! Invariant: no op's result for a row depends on which other rows are in the batch, on how a
//! long input was cut, or on the number of threads.

mod kv;
mod run;

pub use kv::{KvDtype, KvLayout, PageId, RowAddr};
pub use run::{Run, Span};

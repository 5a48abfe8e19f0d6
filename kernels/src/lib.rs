//! The kernels of Cento: one folder per op, the page layout of KV memory, and SIMD dispatch.
//!
//! Each op folder holds `mod.rs` (the public function: formula, shapes, choice of variant),
//! `reference.rs` (plain loops accumulating in f64: the specification), `cpu.rs` (the fast path)
//! and `cases.rs` (the shapes and inputs that drive both tests and benches). `rope`, `kv_append`,
//! `kv_deviation`, `kv_norm`, `merge` and `sampling` have one path for every machine, and no cases.
//!
//! Invariant: no op's result for a row depends on which other rows are in the batch, on how a
//! long input was cut, or on the number of threads.

mod add;
mod attention;
mod blocks;
pub mod case;
mod cpu;
pub mod cuda;
mod embed;
mod gated;
mod isa;
mod kv;
mod kv_append;
mod kv_deviation;
mod kv_norm;
mod matmul;
mod memory;
mod merge;
mod peak;
mod pool;
mod random;
mod rms_norm;
mod rope;
mod run;
mod sampling;
mod simd;

pub use add::{add, add_bias};
pub use attention::{
    AttentionScratch, AttentionShape, Looks, MASS_ONE, Queries, attention, attention_mass,
};
pub use blocks::{BlockFormat, dequantize};
pub use cpu::Cpu;
pub use embed::embed;
pub use gated::{Gate, gated};
pub use isa::{Isa, UnknownIsa};
pub use kv::{
    DEVICE_KV_VERSION, DeviceKvLayout, HEAD_DIM_MAX, KvDtype, KvLayout, KvPool, PAGE_ROWS_MAX,
    PageId, PoolError, RowAddr, UnknownKvDtype,
};
pub use kv_append::{KvRows, kv_append};
pub use kv_deviation::kv_deviation;
pub use kv_norm::kv_norm;
pub use matmul::{Input, Matrix, PackError, Refine, matmul, matmul_each};
pub use memory::Arena;
pub use merge::{PartialState, merge};
pub use peak::{peak_f32, peak_f32_ops, peak_int8, peak_int8_ops};
pub use random::random;
pub use rms_norm::rms_norm;
pub use rope::{RopeStyle, RopeTable};
pub use run::{HiddenRows, Run, Span, Tempered};
pub use sampling::{
    Choice, ChoiceScratch, Filters, Penalties, PenaltyScratch, SampleError, choose, greedy,
    log_sum_exp, penalize, top, uniform,
};

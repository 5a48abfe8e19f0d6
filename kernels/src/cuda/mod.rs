//! The GPU side: a device and its memory, kernels compiled when they are first needed, and the ops
//! as a device runs them.
//!
//! Nothing of CUDA is needed to build this or to start a program that has it in it: driver,
//! compiler and libraries are looked for when a device is opened. A device's work is done in the
//! order it was issued, and waited for only where something is read. Each op's launcher stands
//! beside its CPU variant, in the op's folder.

mod blas;
mod buffer;
mod compile;
mod context;
mod device;
mod error;
mod gemm;
mod gpu;
mod graph;
mod kv_pool;
mod launch;
mod libraries;
mod memory;
mod module;
mod nvrtc;
mod output;
mod pinned;
mod rows;
mod sources;
mod strided;
mod table;
mod timer;

pub use buffer::{Buffer, Number};
pub use device::{Device, Limits};
pub use error::GpuError;
pub use gemm::{Gemm, gemm};
pub use gpu::Gpu;
pub use graph::Graph;
pub use kv_pool::GpuKvPool;
pub use nvrtc::{Nvrtc, Target};
pub use output::Output;
pub use pinned::Pinned;
pub use rows::{gather_rows, round_bf16};
pub use sources::{Signature, Source};
pub use table::{HEADERS, SOURCES};
pub use timer::Moment;

pub use crate::add::cuda::{add, add_bias};
pub use crate::attention::cuda::{
    GpuAttention, GpuQueries, Grids, Launches, attention, attention_mass,
};
pub use crate::blocks::cuda::dequantize;
pub use crate::embed::cuda::{EmbedTable, embed};
pub use crate::gated::cuda::{GatedRows, gated};
pub use crate::kv_append::cuda::{GpuKvRows, HeadNorms, HeadRows, head_norm, kv_append};
pub use crate::kv_deviation::cuda::kv_deviation;
pub use crate::kv_norm::cuda::kv_norm;
pub use crate::matmul::cuda::{
    Addends, GpuInput, GpuMatrix, GpuMatrixError, MatmulScratch, matmul,
};
pub use crate::random::cuda::random;
pub use crate::rms_norm::cuda::{RowNorm, add_rows, rms_norm};
pub use crate::rope::cuda::GpuRopeTable;
pub use crate::sampling::cuda::{GpuChoices, SeenTokens, penalize, penalties_of, softcap};

pub(crate) use launch::{Argument, Shape};
pub(crate) use sources::Kernel;

#[cfg(test)]
mod tests;

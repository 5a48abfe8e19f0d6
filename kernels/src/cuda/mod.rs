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
mod pinned;
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
pub use pinned::Pinned;
pub use sources::{Signature, Source};
pub use table::{HEADERS, SOURCES};
pub use timer::Moment;

pub(crate) use launch::{Argument, Shape};
pub(crate) use sources::Kernel;

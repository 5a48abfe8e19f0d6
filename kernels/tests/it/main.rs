//! The kernels against their references, on every instruction set of this machine.

mod blocks;
mod cases;
mod gpu;
mod matmul;
mod nvrtc;

//! The gate of a feed-forward layer on a device.

use super::Gate;
use crate::cuda::{Argument, Buffer, Gpu, GpuError, Kernel, Output, Shape};

/// Rows of gates and of what they gate: in two arrays, or in one beside one another.
#[derive(Clone, Copy, Debug)]
pub struct GatedRows<'a> {
    /// Gates: row `t` from `t · stride` on.
    pub g: &'a Buffer<f32>,
    /// What they gate, likewise.
    pub u: &'a Buffer<f32>,
    /// Rows.
    pub rows: usize,
    /// Elements of a row.
    pub cols: usize,
    /// From the beginning of one row to that of the next.
    pub stride: usize,
}

/// `out[t, c] = act(g[t, c]) · u[t, c]`, without gaps between rows; see [`crate::gated`].
///
/// # Errors
/// When the device is lost.
///
/// # Panics
/// When an array is too short.
pub fn gated(gpu: &Gpu, gate: Gate, of: &GatedRows<'_>, out: &Output<'_>) -> Result<(), GpuError> {
    let GatedRows { g, u, rows, cols, stride } = *of;
    let extent = if rows == 0 { 0 } else { (rows - 1) * stride + cols };
    assert!(g.len() >= extent && u.len() >= extent && cols <= stride, "{rows} rows of {cols}");
    assert!(out.holds(rows * cols), "a place for {rows} rows of {cols}");
    let kernel = match (gate, out) {
        (Gate::Silu, Output::Plain(_)) => const { Kernel::named("gated_silu_f32") },
        (Gate::Silu, Output::Rounded(..)) => const { Kernel::named("gated_silu_bf16") },
        (Gate::GeluTanh, Output::Plain(_)) => const { Kernel::named("gated_gelu_tanh_f32") },
        (Gate::GeluTanh, Output::Rounded(..)) => const { Kernel::named("gated_gelu_tanh_bf16") },
    };
    let mut arguments = out.arguments();
    arguments.extend([g, u].map(Argument::from));
    arguments.extend([rows, cols, stride].map(Argument::count));
    // SAFETY: reads rows that are in `g` and `u`, and writes as many to `out`, which holds them.
    unsafe { gpu.launch(kernel, &Shape::covering(rows * cols.div_ceil(8), 256), &arguments) }
}

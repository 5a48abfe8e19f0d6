//! `out = x / sqrt(mean(x²) + eps) · weight`, row by row.

mod cases;
mod cpu;
pub(crate) mod cuda;
mod reference;

use crate::Cpu;
pub(crate) use cases::cases;
pub(crate) use cpu::Rows;

/// Elements a thread takes at least: fewer are not worth waking it.
const GRAIN: usize = 1 << 14;

/// `out[t, c] = x[t, c] / sqrt(mean_c(x[t, c]²) + eps) · weight[c]`; rows of `weight.len()`
/// (Zhang and Sennrich 2019).
///
/// # Panics
/// When `x` is not whole rows or `out` has another length.
pub fn rms_norm(cpu: &Cpu, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let cols = weight.len();
    assert_eq!(x.len(), out.len(), "one output per input");
    cpu.split_rows(out, cols, GRAIN / cols.max(1), |first, out| {
        let x = &x[first * cols..][..out.len()];
        cpu.vectorize(Rows { x, weight, eps, out });
    });
}

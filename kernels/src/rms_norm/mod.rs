//! `out = x / sqrt(mean(x²) + eps) · weight`, row by row.

use crate::Cpu;

/// `out[t, c] = x[t, c] / sqrt(mean_c(x[t, c]²) + eps) · weight[c]`; rows of `weight.len()`.
///
/// # Panics
/// When `x` is not whole rows or `out` has another length.
pub fn rms_norm(cpu: &Cpu, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let cols = weight.len();
    assert_eq!(x.len(), out.len(), "one output per input");
    cpu.split_rows(out, cols, 16, |first, rows| {
        for (o, x) in rows.chunks_exact_mut(cols).zip(x[first * cols..].chunks_exact(cols)) {
            let square: f32 = x.iter().map(|v| v * v).sum();
            let scale = 1.0 / (square / cols as f32 + eps).sqrt();
            for ((o, x), w) in o.iter_mut().zip(x).zip(weight) {
                *o = x * scale * w;
            }
        }
    });
}

//! `out[t, r] = Σ_c x[t, c] · w[r, c]`: activations times weights.

mod input;
mod matrix;

use crate::Cpu;
pub use input::Input;
pub use matrix::{Matrix, PackError};

/// `out[t, r] = Σ_c x[t, c] · w[r, c]`, with `out [x.rows, w.rows]`.
///
/// # Panics
/// When `x.cols() != w.cols()` or `out` has another length.
pub fn matmul(cpu: &Cpu, w: &Matrix, x: &Input, out: &mut [f32]) {
    assert_eq!(x.cols(), w.cols(), "inputs of the weights");
    assert_eq!(out.len(), x.rows() * w.rows(), "one output per token and weight row");
    let mut row = vec![0.0; w.cols()];
    for r in 0..w.rows() {
        w.row(r, &mut row);
        cpu.split_rows(out, w.rows(), 1, |first, rows| {
            for (t, o) in rows.chunks_exact_mut(w.rows()).enumerate() {
                o[r] = x.row(first + t).iter().zip(&row).map(|(x, w)| x * w).sum();
            }
        });
    }
}

//! `out[t, r] = Σ_c x[t, c] · w[r, c]`: activations times weights.
//!
//! Quantized weights multiply int8 activations, float weights f32 ones; see [`Input`].

mod cases;
mod codes;
pub(crate) mod cuda;
mod floats;
mod input;
mod int8;
mod matrix;
mod part;
mod product;
mod quantized;
mod reference;
mod scales;
mod strip;

use crate::Cpu;
use crate::cpu::Disjoint;
pub(crate) use cases::cases;
use floats::FloatProduct;
pub use input::{Input, Refine};
use int8::Int8;
use matrix::Weights;
pub use matrix::{Matrix, PackError};
use strip::Strip;

/// Products below which handing work to another thread costs more than it saves.
const THREAD_PRODUCTS: usize = 1 << 16;

/// Bytes of activations that stay in L2 while panel after panel passes over them.
const TOKENS_BYTES: usize = 768 << 10;

/// Strips per thread of a large product: a thread that was held up leaves its rest to others, and
/// the last strip, for which all wait, is short.
const STRIPS: usize = 16;

/// `out[t, r] = Σ_c x[t, c] · w[r, c]`, with `out [x.rows, w.rows]`.
///
/// # Panics
/// When `x.cols() != w.cols()` or `out` has another length.
pub fn matmul(cpu: &Cpu, w: &Matrix, x: &Input, out: &mut [f32]) {
    matmul_each(cpu, [w], x, [out]);
}

/// [`matmul`] of several weights with the same activations: threads are called together once.
///
/// # Panics
/// As [`matmul`].
pub fn matmul_each<const N: usize>(cpu: &Cpu, w: [&Matrix; N], x: &Input, out: [&mut [f32]; N]) {
    let strips = w.map(|w| {
        assert_eq!(x.cols(), w.cols(), "inputs of the weights");
        let products = x.rows() * w.rows() * w.cols();
        let pieces = w.panels().div_ceil(panels_together(x));
        (products / THREAD_PRODUCTS).min(cpu.threads() * STRIPS).clamp(1, pieces)
    });
    let out = out.map(Disjoint::new);
    for (w, out) in w.iter().zip(&out) {
        assert_eq!(out.len(), x.rows() * w.rows(), "one output per token and weight row");
    }
    cpu.for_each(strips.iter().sum(), |task| {
        let mut s = task;
        for ((w, out), &strips) in w.iter().zip(&out).zip(&strips) {
            if s < strips {
                return multiply(cpu, w, x, out, (s, strips));
            }
            s -= strips;
        }
    });
}

/// Panels that are better in one strip.
fn panels_together(x: &Input) -> usize {
    if x.rows() < int8::UNPACKED_ROWS { 1 } else { int8::PANELS }
}

/// Strip `s` of `strips`.
fn multiply(
    cpu: &Cpu,
    w: &Matrix,
    x: &Input,
    out: &Disjoint<'_, f32>,
    (s, strips): (usize, usize),
) {
    let together = panels_together(x);
    let pieces = w.panels().div_ceil(together);
    let panels =
        pieces * s / strips * together..(pieces * (s + 1) / strips * together).min(w.panels());
    let unit = if x.is_refined() { input::BLOCK } else { strip::TILE };
    let tokens_step = (TOKENS_BYTES / w.input_bytes()).max(unit) / unit * unit;
    for first in (0..x.rows()).step_by(tokens_step) {
        let strip = Strip {
            panels: panels.clone(),
            tokens: first..(first + tokens_step).min(x.rows()),
            out,
            rows: w.rows(),
        };
        match w.weights() {
            Weights::Quantized(w) => cpu.vectorize(Int8 { w, x, strip }),
            Weights::Floats(w) => cpu.vectorize(FloatProduct { w, x, strip }),
        }
    }
}

//! `out = act(g) · u`: the gate of a feed-forward layer.

mod cases;
mod cpu;
pub(crate) mod cuda;
mod reference;

use crate::Cpu;
pub(crate) use cases::cases;
pub(crate) use cpu::Elements;

/// The activation of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// `g / (1 + e^-g)`.
    Silu,
    /// `g/2 · (1 + tanh(√(2/π) (g + 0.044715 g³)))` (Hendrycks and Gimpel 2016).
    GeluTanh,
}

/// `√(2/π)`.
const GELU_FACTOR: f32 = 0.797_884_6;
/// The cubic term of [`Gate::GeluTanh`].
const GELU_CUBIC: f32 = 0.044_715;

/// Elements a thread takes at least: fewer are not worth waking it.
const GRAIN: usize = 1 << 13;

/// `out = act(g) · u`, element by element.
///
/// # Panics
/// When the lengths differ.
pub fn gated(cpu: &Cpu, gate: Gate, g: &[f32], u: &[f32], out: &mut [f32]) {
    assert!(g.len() == u.len() && g.len() == out.len(), "one gate and one value per output");
    cpu.split_rows(out, 1, GRAIN, |first, out| {
        let (g, u) = (&g[first..][..out.len()], &u[first..][..out.len()]);
        cpu.vectorize(Elements { gate, g, u, out });
    });
}

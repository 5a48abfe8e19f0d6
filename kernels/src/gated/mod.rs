//! `out = act(g) · u`: the gate of a feed-forward layer.

use crate::Cpu;

/// The activation of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// `g / (1 + e^-g)`.
    Silu,
    /// `g/2 · (1 + tanh(√(2/π) (g + 0.044715 g³)))`.
    GeluTanh,
}

/// `out = act(g) · u`, element by element.
///
/// # Panics
/// When the lengths differ.
pub fn gated(cpu: &Cpu, gate: Gate, g: &[f32], u: &[f32], out: &mut [f32]) {
    assert!(g.len() == u.len() && g.len() == out.len(), "one gate and one value per output");
    cpu.split_rows(out, 1, 1 << 12, |first, part| {
        for ((o, &g), u) in part.iter_mut().zip(&g[first..]).zip(&u[first..]) {
            let act = match gate {
                Gate::Silu => g / (1.0 + (-g).exp()),
                Gate::GeluTanh => {
                    0.5 * g * (1.0 + (0.797_884_56 * (g + 0.044_715 * g * g * g)).tanh())
                }
            };
            *o = act * u;
        }
    });
}

//! What [`super::gated`] computes, plainly.

use super::{GELU_CUBIC, GELU_FACTOR, Gate};

/// `out = act(g) · u`.
pub(super) fn gated(gate: Gate, g: &[f32], u: &[f32], out: &mut [f32]) {
    for ((out, &g), &u) in out.iter_mut().zip(g).zip(u) {
        let g = f64::from(g);
        let act = match gate {
            Gate::Silu => g / (1.0 + (-g).exp()),
            Gate::GeluTanh => {
                let z = f64::from(GELU_FACTOR) * (g + f64::from(GELU_CUBIC) * g * g * g);
                0.5 * g * (1.0 + z.tanh())
            }
        };
        *out = (act * f64::from(u)) as f32;
    }
}

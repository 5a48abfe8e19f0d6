//! The fast path: plain loops that the compiler vectorizes, over an exponential of our own.
//!
//! Invariant: no multiplication is fused, so every instruction set gives the same bits.

use super::{GELU_CUBIC, GELU_FACTOR, Gate};
use crate::simd::{Simd, Vectorized};

/// Some elements.
pub(crate) struct Elements<'a> {
    pub(crate) gate: Gate,
    pub(crate) g: &'a [f32],
    pub(crate) u: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl Vectorized for Elements<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        let elements = self.out.iter_mut().zip(self.g).zip(self.u);
        match self.gate {
            Gate::Silu => elements.for_each(|((out, &g), u)| *out = g / (1.0 + exp(-g)) * u),
            // (1 + tanh z) / 2 = 1 / (1 + e^-2z)
            Gate::GeluTanh => elements.for_each(|((out, &g), u)| {
                let z = GELU_FACTOR * (g + GELU_CUBIC * g * g * g);
                *out = g / (1.0 + exp(-2.0 * z)) * u;
            }),
        }
    }
}

/// `e^x` within 2 units in the last place, for `x` clamped to ±87: `2^n · e^r` with `|r| <= ln 2 /
/// 2` and a polynomial of degree 7 (Cephes' `expf`). NaN gives NaN.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// `ln 2` in two parts; the first has 9 significant bits, so that `n` times it is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    /// Adding it leaves the rounded number in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x > 87.0 { 87.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN_2[0] - n * LN_2[1];
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + coefficient;
    }
    let fraction = p * r * r + r + 1.0;
    fraction * f32::from_bits(rounded.to_bits().wrapping_add(127) << 23)
}

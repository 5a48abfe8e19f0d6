//! What [`super::random`] computes, plainly.

use super::{MEAN, VARIANCE};
use crate::sampling::philox;
use half::bf16;

/// Number `index` of `seed`.
pub(super) fn random(seed: u64, deviation: f32, index: usize) -> bf16 {
    let block = philox([(index / 4) as u32, 0, 0, 0], [seed as u32, (seed >> 32) as u32]);
    let word = block[index % 4];
    let sum: u32 = (0..4).map(|byte| word >> (8 * byte) & 255).sum();
    let scale = (f64::from(deviation) / VARIANCE.sqrt()) as f32;
    // Exact, then rounded twice, as it is where there is no f64.
    let product = (f64::from(sum) - f64::from(MEAN)) * f64::from(scale);
    bf16::from_f32(product as f32)
}

//! `out[i] = scale · (Σ_b byte_b(word(seed, i)) - mean)`: numbers made of a seed and of where they
//! stand, near a normal distribution. Weights of models that are only measured are made so, on the
//! device they are for; the bits are the same on every machine.

mod cases;
pub(crate) mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use crate::Cpu;
use crate::sampling::philox;
pub(crate) use cases::cases;
use half::bf16;

/// Blocks a thread takes at least: fewer are not worth waking it.
const GRAIN: usize = 1 << 10;

/// The numbers of `seed`, of this deviation around zero, each rounded to bf16 once. How many there
/// are changes none of them.
///
/// # Panics
/// When there are more than 2^31.
pub fn random(cpu: &Cpu, seed: u64, deviation: f32, out: &mut [bf16]) {
    assert!(out.len() <= 1 << 31, "blocks are counted in 32 bits");
    let (scale, key) = (scale_of(deviation), [seed as u32, (seed >> 32) as u32]);
    let (whole, rest) = out.as_chunks_mut();
    let fill = |number: usize, out: &mut [bf16]| {
        let words = philox([number as u32, 0, 0, 0], key);
        for (out, word) in out.iter_mut().zip(words) {
            let sum = word.to_le_bytes().into_iter().map(u16::from).sum::<u16>();
            *out = bf16::from_f32((f32::from(sum) - MEAN) * scale);
        }
    };
    fill(whole.len(), rest);
    cpu.split_rows(whole, 1, GRAIN, |first, blocks: &mut [[bf16; WORDS]]| {
        for (i, block) in blocks.iter_mut().enumerate() {
            fill(first + i, block);
        }
    });
}

/// What sums of bytes are multiplied by for numbers of this deviation.
fn scale_of(deviation: f32) -> f32 {
    (f64::from(deviation) / VARIANCE.sqrt()) as f32
}

/// Words of a block of the generator: a number each.
const WORDS: usize = 4;

/// Of the sum of the four bytes of a word.
const MEAN: f32 = 510.0;
/// Of the same: four times (256² - 1) / 12.
const VARIANCE: f64 = 21_845.0;

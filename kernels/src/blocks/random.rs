//! Random blocks for cases and tests: every bit pattern of codes, scales of ordinary size.

use super::BlockFormat;
use crate::case::Rng;
use half::f16;

impl BlockFormat {
    /// The bytes of `count` random numbers.
    ///
    /// # Panics
    /// When `count` is not whole blocks.
    pub fn random(self, count: usize, rng: &mut Rng) -> Vec<u8> {
        assert!(count.is_multiple_of(self.block_len()), "whole blocks");
        let blocks = 0..count / self.block_len();
        blocks.flat_map(|_| self.random_block(rng)).collect()
    }

    fn random_block(self, rng: &mut Rng) -> Vec<u8> {
        let mut block: Vec<u8> = (0..self.block_bytes()).map(|_| rng.bits() as u8).collect();
        let value = rng.signed();
        // Where half precision scales stand; other bytes are codes, for which any bits will do.
        let scales: &[usize] = match self {
            Self::F32 => return value.to_le_bytes().to_vec(),
            Self::F16 => return f16::from_f32(value).to_le_bytes().to_vec(),
            Self::Bf16 => return half::bf16::from_f32(value).to_le_bytes().to_vec(),
            Self::Q8_0 | Self::Q4_0 | Self::Q5_0 => &[0],
            Self::Q4_1 | Self::Q5_1 | Self::Q4K | Self::Q5K => &[0, 2],
            Self::Q6K => &[208],
        };
        for &at in scales {
            let scale = f16::from_f32(0.05 * rng.signed());
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
        block
    }
}

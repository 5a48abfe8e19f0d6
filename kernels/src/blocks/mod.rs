//! The block formats of GGUF files: their sizes, and the f32 values they stand for.
//!
//! Layouts and formulae are those of ggml (`ggml-common.h`, `dequantize_row_*` in
//! `ggml-quants.c`). Values are computed in f32 exactly as there.

mod codes;
pub(crate) mod cuda;
mod decode;
mod random;

pub(crate) use codes::{CODES_MAX, codes};
pub use decode::dequantize;
pub(crate) use decode::scale_min_k4;

/// How a GGUF file stores the numbers of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockFormat {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// 32 signed 8-bit codes and a scale.
    Q8_0,
    /// 32 4-bit codes around 8 and a scale.
    Q4_0,
    /// 32 4-bit codes, a scale and a minimum.
    Q4_1,
    /// 32 5-bit codes around 16 and a scale.
    Q5_0,
    /// 32 5-bit codes, a scale and a minimum.
    Q5_1,
    /// 256 4-bit codes, 8 groups with 6-bit scales and minima.
    Q4K,
    /// 256 5-bit codes, 8 groups with 6-bit scales and minima.
    Q5K,
    /// 256 6-bit codes around 32, 16 groups with 8-bit scales.
    Q6K,
}

impl BlockFormat {
    /// Every format.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Numbers in one block.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Whether numbers are plain floats, not quantized.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }
}

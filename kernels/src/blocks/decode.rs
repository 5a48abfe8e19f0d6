//! Blocks to f32 values.

use super::BlockFormat;
use super::codes::{CODES_MAX, codes};
use half::{bf16, f16};

/// Writes the values of `bytes`, whole blocks of `format`, to `out`.
///
/// # Panics
/// When `out` is not exactly as long as the blocks say.
pub fn dequantize(format: BlockFormat, bytes: &[u8], out: &mut [f32]) {
    let (len, size) = (format.block_len(), format.block_bytes());
    assert!(bytes.len().is_multiple_of(size), "whole blocks");
    assert_eq!(bytes.len() / size * len, out.len(), "one value per number of the blocks");
    for (block, out) in bytes.chunks_exact(size).zip(out.chunks_exact_mut(len)) {
        match format {
            BlockFormat::F32 => {
                out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
            }
            BlockFormat::F16 => out[0] = f16_at(block, 0),
            BlockFormat::Bf16 => out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(),
            _ => quantized(format, block, out),
        }
    }
}

/// Writes the values of one quantized block.
fn quantized(format: BlockFormat, block: &[u8], out: &mut [f32]) {
    let mut unpacked = [0; CODES_MAX];
    let unpacked = &mut unpacked[..format.block_len()];
    codes(format, block, unpacked);
    let d = |at| f16_at(block, at);
    match format {
        // d · (q - zero)
        BlockFormat::Q8_0 => affine(unpacked, out, |q| (q - 128.0) * d(0)),
        BlockFormat::Q4_0 => affine(unpacked, out, |q| (q - 8.0) * d(0)),
        BlockFormat::Q5_0 => affine(unpacked, out, |q| (q - 16.0) * d(0)),
        // d · q + m
        BlockFormat::Q4_1 | BlockFormat::Q5_1 => affine(unpacked, out, |q| q * d(0) + d(2)),
        // d · scale · q - dmin · min
        BlockFormat::Q4K | BlockFormat::Q5K => {
            let groups = unpacked.chunks_exact(32).zip(out.chunks_exact_mut(32));
            for (group, (codes, out)) in groups.enumerate() {
                let (scale, min) = scale_min_k4(&block[4..16], group);
                let (scale, min) = (d(0) * f32::from(scale), d(2) * f32::from(min));
                affine(codes, out, |q| scale * q - min);
            }
        }
        // d · scale · (q - 32)
        _ => {
            let groups = unpacked.chunks_exact(16).zip(out.chunks_exact_mut(16));
            for ((codes, out), scale) in groups.zip(&block[192..208]) {
                let scale = d(208) * f32::from(scale.cast_signed());
                affine(codes, out, |q| scale * (q - 32.0));
            }
        }
    }
}

fn affine(codes: &[u8], out: &mut [f32], value: impl Fn(f32) -> f32) {
    for (out, &code) in out.iter_mut().zip(codes) {
        *out = value(f32::from(code));
    }
}

/// The 6-bit scale and minimum of a group of Q4_K and Q5_K (`get_scale_min_k4` of ggml).
pub(crate) fn scale_min_k4(bytes: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        (bytes[group] & 63, bytes[group + 4] & 63)
    } else {
        (
            (bytes[group + 4] & 15) | (bytes[group - 4] >> 6) << 4,
            (bytes[group + 4] >> 4) | (bytes[group] >> 6) << 4,
        )
    }
}

fn f16_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

//! Blocks to f32 values.

use super::BlockFormat;
use half::{bf16, f16};

/// Writes the values of `bytes`, whole blocks of `format`, to `out`.
///
/// # Panics
/// When `out` is not exactly as long as the blocks say.
pub fn dequantize(format: BlockFormat, bytes: &[u8], out: &mut [f32]) {
    let (len, size) = (format.block_len(), format.block_bytes());
    assert!(bytes.len().is_multiple_of(size), "whole blocks");
    assert_eq!(bytes.len() / size * len, out.len(), "one value per number of the blocks");
    let pairs = bytes.chunks_exact(size).zip(out.chunks_exact_mut(len));
    match format {
        BlockFormat::F32 => pairs.for_each(|(b, o)| o[0] = f32_at(b, 0)),
        BlockFormat::F16 => pairs.for_each(|(b, o)| o[0] = f16_at(b, 0)),
        BlockFormat::Bf16 => pairs.for_each(|(b, o)| {
            o[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32();
        }),
        BlockFormat::Q8_0 => pairs.for_each(|(b, o)| q8_0(b, o)),
        BlockFormat::Q4_0 => pairs.for_each(|(b, o)| q4_0(b, o)),
        BlockFormat::Q4_1 => pairs.for_each(|(b, o)| q4_1(b, o)),
        BlockFormat::Q5_0 => pairs.for_each(|(b, o)| q5_0(b, o)),
        BlockFormat::Q5_1 => pairs.for_each(|(b, o)| q5_1(b, o)),
        BlockFormat::Q4K => pairs.for_each(|(b, o)| q4_k(b, o)),
        BlockFormat::Q5K => pairs.for_each(|(b, o)| q5_k(b, o)),
        BlockFormat::Q6K => pairs.for_each(|(b, o)| q6_k(b, o)),
    }
}

/// `[d: f16][32 × i8]`: `d * q`.
fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    for (o, &q) in out.iter_mut().zip(&block[2..]) {
        *o = f32::from(q.cast_signed()) * d;
    }
}

/// `[d: f16][16 bytes]`: low nibbles are the first half; `d * (q - 8)`.
fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    for (i, &q) in block[2..18].iter().enumerate() {
        out[i] = (f32::from(q & 15) - 8.0) * d;
        out[i + 16] = (f32::from(q >> 4) - 8.0) * d;
    }
}

/// `[d: f16][m: f16][16 bytes]`: `d * q + m`.
fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    for (i, &q) in block[4..20].iter().enumerate() {
        out[i] = f32::from(q & 15) * d + m;
        out[i + 16] = f32::from(q >> 4) * d + m;
    }
}

/// `[d: f16][32 fifth bits][16 bytes]`: `d * (q - 16)`.
fn q5_0(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    for (o, q) in out.iter_mut().zip(five_bits(&block[2..22])) {
        *o = (f32::from(q) - 16.0) * d;
    }
}

/// `[d: f16][m: f16][32 fifth bits][16 bytes]`: `d * q + m`.
fn q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    for (o, q) in out.iter_mut().zip(five_bits(&block[4..24])) {
        *o = f32::from(q) * d + m;
    }
}

/// The 32 codes of `[32 fifth bits][16 bytes of nibbles]`.
fn five_bits(bytes: &[u8]) -> [u8; 32] {
    let high = u32_at(bytes, 0);
    std::array::from_fn(|i| {
        let low = if i < 16 { bytes[4 + i] & 15 } else { bytes[4 + i - 16] >> 4 };
        low | ((high >> i & 1) as u8) << 4
    })
}

/// `[d: f16][dmin: f16][12 bytes of scales][128 bytes]`: `d * scale * q - dmin * min`.
fn q4_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    for (group, o) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min_k4(&block[4..16], group);
        let (d1, m1) = (d * f32::from(scale), dmin * f32::from(min));
        let codes = &block[16 + group / 2 * 32..][..32];
        for (o, &q) in o.iter_mut().zip(codes) {
            let q = if group % 2 == 0 { q & 15 } else { q >> 4 };
            *o = d1 * f32::from(q) - m1;
        }
    }
}

/// `[d: f16][dmin: f16][12 bytes of scales][32 bytes of fifth bits][128 bytes]`, as Q4_K.
fn q5_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    for (group, o) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min_k4(&block[4..16], group);
        let (d1, m1) = (d * f32::from(scale), dmin * f32::from(min));
        let codes = &block[48 + group / 2 * 32..][..32];
        for ((o, &q), &high) in o.iter_mut().zip(codes).zip(&block[16..48]) {
            let q = if group % 2 == 0 { q & 15 } else { q >> 4 };
            *o = d1 * f32::from(q | (high >> group & 1) << 4) - m1;
        }
    }
}

/// `[128 bytes low][64 bytes high][16 × i8 scales][d: f16]`: `d * scale * (q - 32)`.
fn q6_k(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 208);
    for (i, o) in out.iter_mut().enumerate() {
        let (half, quarter, at) = (i / 128, i % 128 / 32, i % 32);
        let low = block[half * 64 + quarter % 2 * 32 + at] >> (quarter / 2 * 4) & 15;
        let high = block[128 + half * 32 + at] >> (quarter * 2) & 3;
        let scale = f32::from(block[192 + i / 16].cast_signed());
        *o = d * scale * (f32::from(low | high << 4) - 32.0);
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

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn f32_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_bits(u32_at(bytes, at))
}

fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

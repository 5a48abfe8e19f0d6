//! The unsigned codes in a quantized block, in the order of the numbers they stand for.

use super::BlockFormat;

/// Codes in the longest block.
pub(crate) const CODES_MAX: usize = 256;

/// Writes the codes of one block; Q8_0's signed ones raised by 128.
///
/// # Panics
/// When `format` is a float, or `block` or `out` are not of one block.
pub(crate) fn codes(format: BlockFormat, block: &[u8], out: &mut [u8]) {
    assert_eq!(block.len(), format.block_bytes(), "one block");
    assert_eq!(out.len(), format.block_len(), "one code per number of the block");
    match format {
        BlockFormat::F32 | BlockFormat::F16 | BlockFormat::Bf16 => {
            panic!("{format:?} has no codes")
        }
        BlockFormat::Q8_0 => out.iter_mut().zip(&block[2..]).for_each(|(o, q)| *o = q ^ 128),
        BlockFormat::Q4_0 => nibbles(&block[2..], out),
        BlockFormat::Q4_1 => nibbles(&block[4..], out),
        BlockFormat::Q5_0 => five_bits(&block[2..6], &block[6..], out),
        BlockFormat::Q5_1 => five_bits(&block[4..8], &block[8..], out),
        BlockFormat::Q4K => {
            for (bytes, out) in block[16..].chunks_exact(32).zip(out.chunks_exact_mut(64)) {
                nibbles(bytes, out);
            }
        }
        BlockFormat::Q5K => {
            for (bytes, out) in block[48..].chunks_exact(32).zip(out.chunks_exact_mut(64)) {
                nibbles(bytes, out);
            }
            for (group, out) in out.chunks_exact_mut(32).enumerate() {
                let high = &block[16..48];
                out.iter_mut().zip(high).for_each(|(o, bits)| *o |= (bits >> group & 1) << 4);
            }
        }
        BlockFormat::Q6K => six_bits(&block[..128], &block[128..192], out),
    }
}

/// Low nibbles, then high nibbles.
fn nibbles(bytes: &[u8], out: &mut [u8]) {
    let (low, high) = out.split_at_mut(bytes.len());
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
}

/// Nibbles, and the fifth bit of code `i` at bit `i` of `high`, which has 4 bytes.
fn five_bits(high: &[u8], low: &[u8], out: &mut [u8]) {
    /// Times 4 bits: bit `i` at the bottom of byte `i`, and others.
    const SPREAD: u32 = 1 | 1 << 7 | 1 << 14 | 1 << 21;
    nibbles(low, out);
    let bits = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    for (quad, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
        let fifth = (((bits >> (4 * quad)) & 15) * SPREAD) & 0x0101_0101;
        *out = (u32::from_le_bytes(*out) | fifth << 4).to_le_bytes();
    }
}

/// Halves of 128 codes: nibbles of 64 bytes, and two bits each of 32 bytes.
fn six_bits(low: &[u8], high: &[u8], out: &mut [u8]) {
    for (half, out) in out.chunks_exact_mut(128).enumerate() {
        nibbles(&low[half * 64..][..64], out);
        for (quarter, out) in out.chunks_exact_mut(32).enumerate() {
            let high = &high[half * 32..][..32];
            out.iter_mut().zip(high).for_each(|(o, bits)| *o |= (bits >> (2 * quarter) & 3) << 4);
        }
    }
}

//! Scales and minima of quantized weights, repacked for panels of 16 rows.
//!
//! They stay in the precision of the file (decoding streams them with the codes, and as f32 they
//! would be a third of the traffic) and become f32 for one panel and a few groups at a time.
//!
//! A *record* holds the scales of 16 rows and `span` columns:
//!
//! ```text
//! Half      span  32   d f16 × 16
//! HalfMin   span  32   d f16 × 16 | m f16 × 16
//! Super     span 256   d f16 × 16 | dmin f16 × 16 | 8 × (scale u8 × 16 | min u8 × 16)
//! SuperHalf span 256   d f16 × 16 | 16 × (scale i8 × 16)
//! ```

use crate::BlockFormat;
use crate::blocks::scale_min_k4;
use crate::simd::{LANES, Simd};

/// How a format stores what its codes stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scales {
    /// `d · (q - zero)` (Q8_0 with codes raised by 128, Q4_0, Q5_0).
    Half {
        /// The code that stands for 0.
        zero: u8,
    },
    /// `d · q + m` (Q4_1, Q5_1).
    HalfMin,
    /// `d · scale · q - dmin · min` (Q4_K, Q5_K).
    Super,
    /// `d · scale · (q - 32)` with a scale for every 16 columns (Q6_K).
    SuperHalf,
}

/// Scales and minima of 16 rows for one group of columns: `w = scale · q + min`, or
/// `w = scale · (q - zero)` and `min` stays 0.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct GroupScales {
    pub(super) scale: [f32; LANES],
    pub(super) min: [f32; LANES],
}

impl GroupScales {
    pub(super) const ZERO: Self = Self { scale: [0.0; LANES], min: [0.0; LANES] };
}

/// The code of 0 in Q6_K.
const ZERO_Q6: f32 = 32.0;

impl Scales {
    /// Those of a quantized format; `None` for floats.
    pub(super) const fn of(format: BlockFormat) -> Option<Self> {
        match format {
            BlockFormat::F32 | BlockFormat::F16 | BlockFormat::Bf16 => None,
            BlockFormat::Q8_0 => Some(Self::Half { zero: 128 }),
            BlockFormat::Q4_0 => Some(Self::Half { zero: 8 }),
            BlockFormat::Q5_0 => Some(Self::Half { zero: 16 }),
            BlockFormat::Q4_1 | BlockFormat::Q5_1 => Some(Self::HalfMin),
            BlockFormat::Q4K | BlockFormat::Q5K => Some(Self::Super),
            BlockFormat::Q6K => Some(Self::SuperHalf),
        }
    }

    /// Columns of a group.
    pub(super) const fn group(self) -> usize {
        if matches!(self, Self::SuperHalf) { 16 } else { 32 }
    }

    /// Columns of a record.
    pub(super) const fn span(self) -> usize {
        if matches!(self, Self::Super | Self::SuperHalf) { 256 } else { 32 }
    }

    /// Bytes of a record.
    pub(super) const fn record_bytes(self) -> usize {
        match self {
            Self::Half { .. } => 2 * LANES,
            Self::HalfMin => 4 * LANES,
            Self::Super => 4 * LANES + 8 * 2 * LANES,
            Self::SuperHalf => 2 * LANES + 16 * LANES,
        }
    }

    /// Copies the scales of a block of the file to lane `lane` of a record.
    pub(super) fn pack(self, block: &[u8], lane: usize, record: &mut [u8]) {
        let mut half = |at: usize, from: &[u8]| {
            record[at + 2 * lane..][..2].copy_from_slice(&from[..2]);
        };
        match self {
            Self::Half { .. } => half(0, block),
            Self::HalfMin => {
                half(0, block);
                half(2 * LANES, &block[2..]);
            }
            Self::Super => {
                half(0, block);
                half(2 * LANES, &block[2..]);
                for group in 0..8 {
                    let (scale, min) = scale_min_k4(&block[4..16], group);
                    let at = 4 * LANES + group * 2 * LANES + lane;
                    (record[at], record[at + LANES]) = (scale, min);
                }
            }
            Self::SuperHalf => {
                half(0, &block[208..]);
                for (group, &scale) in block[192..208].iter().enumerate() {
                    record[2 * LANES + group * LANES + lane] = scale;
                }
            }
        }
    }

    /// Decodes whole records to one [`GroupScales`] per group. Which kind they are is asked once, and
    /// not at each.
    #[inline(always)]
    pub(super) fn decode<S: Simd>(self, simd: S, records: &[u8], out: &mut [GroupScales]) {
        let per_record = self.span() / self.group();
        debug_assert_eq!(records.len() / self.record_bytes() * per_record, out.len(), "groups");
        match self {
            Self::Half { .. } => {
                let (records, _) = records.as_chunks::<{ 2 * LANES }>();
                for (record, out) in records.iter().zip(out) {
                    for part in 0..S::PARTS {
                        simd.store(simd.load_f16(&halves(record), part), &mut out.scale, part);
                    }
                }
            }
            Self::HalfMin => {
                let (records, _) = records.as_chunks::<{ 4 * LANES }>();
                for (record, out) in records.iter().zip(out) {
                    let (scale, min) = record.split_at(2 * LANES);
                    for part in 0..S::PARTS {
                        simd.store(simd.load_f16(&halves(scale), part), &mut out.scale, part);
                        simd.store(simd.load_f16(&halves(min), part), &mut out.min, part);
                    }
                }
            }
            Self::Super => {
                let (records, _) = records.as_chunks::<{ 4 * LANES + 8 * 2 * LANES }>();
                for (record, out) in records.iter().zip(out.as_chunks_mut::<8>().0) {
                    super_scales(simd, record, out);
                }
            }
            Self::SuperHalf => {
                let (records, _) = records.as_chunks::<{ 2 * LANES + 16 * LANES }>();
                for (record, out) in records.iter().zip(out.as_chunks_mut::<16>().0) {
                    for part in 0..S::PARTS {
                        let d = simd.load_f16(&halves(record), part);
                        let (bytes, _) = record[2 * LANES..].as_chunks::<LANES>();
                        for (out, bytes) in out.iter_mut().zip(bytes) {
                            let scale = simd.mul(d, simd.load_i8(bytes, part));
                            simd.store(scale, &mut out.scale, part);
                        }
                    }
                }
            }
        }
    }

    /// The value of `code`, computed in f32 as ggml computes it.
    pub(super) fn value(self, code: u8, scales: &GroupScales, lane: usize) -> f32 {
        let (code, scale) = (f32::from(code), scales.scale[lane]);
        match self {
            Self::Half { zero } => (code - f32::from(zero)) * scale,
            Self::SuperHalf => (code - ZERO_Q6) * scale,
            Self::HalfMin | Self::Super => code * scale + scales.min[lane],
        }
    }
}

/// Decodes a record of [`Scales::Super`].
#[inline(always)]
fn super_scales<S: Simd>(simd: S, record: &[u8], out: &mut [GroupScales; 8]) {
    for part in 0..S::PARTS {
        let d = simd.load_f16(&halves(record), part);
        let dmin = simd.load_f16(&halves(&record[2 * LANES..]), part);
        let dmin = simd.mul(simd.splat(-1.0), dmin);
        let (bytes, _) = record[4 * LANES..].as_chunks::<LANES>();
        for (out, bytes) in out.iter_mut().zip(bytes.chunks_exact(2)) {
            let scale = simd.mul(d, simd.load_u8(&bytes[0], part));
            let min = simd.mul(dmin, simd.load_u8(&bytes[1], part));
            simd.store(scale, &mut out.scale, part);
            simd.store(min, &mut out.min, part);
        }
    }
}

/// The 16 half floats at the start of `bytes`.
#[inline(always)]
fn halves(bytes: &[u8]) -> [u16; LANES] {
    let (pairs, _) = bytes[..2 * LANES].as_chunks::<2>();
    let mut halves = [0; LANES];
    for (half, pair) in halves.iter_mut().zip(pairs) {
        *half = u16::from_le_bytes(*pair);
    }
    halves
}

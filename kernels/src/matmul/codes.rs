//! How codes of quantized weights are stored, scaled and summed: one type for each form, which
//! products are compiled for.

use super::input;
use super::quantized::{Line, Width};
use crate::simd::Simd;
use std::marker::PhantomData;

/// Lines of a group whose codes are unpacked: one for each column quad.
pub(super) const QUADS: usize = input::GROUP / 4;

/// How codes are stored and scaled.
pub(super) trait Codes {
    const WIDTH: Width;
    /// Lines of a group.
    const LINES: usize = Self::WIDTH.lines();
    /// They come from memory, and not from a part that was unpacked before.
    const STREAMED: bool = true;
    /// Scales of a group: 1, or 2 for its halves.
    const SCALES: usize = 1;
    /// The code that stands for 0; 0 where there are minima instead.
    const ZERO: i32;
    /// How their products are summed.
    type Sums: Sums;
}

/// Sums of products of codes and bytes, see [`Simd`].
pub(super) trait Sums {
    type Sum<S: Simd>: Copy;
    fn start<S: Simd>(simd: S, start: i32) -> Self::Sum<S>;
    fn add<S: Simd>(simd: S, sum: Self::Sum<S>, codes: S::Codes, x: [i8; 4]) -> Self::Sum<S>;
    fn scaled<S: Simd>(simd: S, sum: Self::Sum<S>, start: i32, scale: S::F32) -> S::F32;
}

/// Of codes of 4 bits.
pub(super) struct OfNibbles;

impl Sums for OfNibbles {
    type Sum<S: Simd> = S::Dot4;

    #[inline(always)]
    fn start<S: Simd>(simd: S, start: i32) -> S::Dot4 {
        simd.dot4_from(start)
    }

    #[inline(always)]
    fn add<S: Simd>(simd: S, sum: S::Dot4, codes: S::Codes, x: [i8; 4]) -> S::Dot4 {
        simd.dot4(sum, codes, x)
    }

    #[inline(always)]
    fn scaled<S: Simd>(simd: S, sum: S::Dot4, start: i32, scale: S::F32) -> S::F32 {
        simd.dot4_scaled(sum, start, scale)
    }
}

/// Of codes of up to 8 bits.
pub(super) struct OfBytes;

impl Sums for OfBytes {
    type Sum<S: Simd> = S::Dot8;

    #[inline(always)]
    fn start<S: Simd>(simd: S, start: i32) -> S::Dot8 {
        simd.dot8_from(start)
    }

    #[inline(always)]
    fn add<S: Simd>(simd: S, sum: S::Dot8, codes: S::Codes, x: [i8; 4]) -> S::Dot8 {
        simd.dot8(sum, codes, x)
    }

    #[inline(always)]
    fn scaled<S: Simd>(simd: S, sum: S::Dot8, start: i32, scale: S::F32) -> S::F32 {
        simd.dot8_scaled(sum, start, scale)
    }
}

pub(super) struct Four;
pub(super) struct FourZero;
pub(super) struct Five;
pub(super) struct FiveZero;
pub(super) struct SixHalves;
pub(super) struct Eight;

impl Codes for Four {
    const WIDTH: Width = Width::Four;
    const ZERO: i32 = 0;
    type Sums = OfNibbles;
}

impl Codes for FourZero {
    const WIDTH: Width = Width::Four;
    const ZERO: i32 = 8;
    type Sums = OfNibbles;
}

impl Codes for Five {
    const WIDTH: Width = Width::Five;
    const ZERO: i32 = 0;
    type Sums = OfBytes;
}

impl Codes for FiveZero {
    const WIDTH: Width = Width::Five;
    const ZERO: i32 = 16;
    type Sums = OfBytes;
}

impl Codes for SixHalves {
    const WIDTH: Width = Width::Six;
    const SCALES: usize = 2;
    const ZERO: i32 = 32;
    type Sums = OfBytes;
}

impl Codes for Eight {
    const WIDTH: Width = Width::Eight;
    const ZERO: i32 = 128;
    type Sums = OfBytes;
}

/// Codes `C`, each in a byte.
pub(super) struct Unpacked<C>(PhantomData<C>);

impl<C: Codes> Codes for Unpacked<C> {
    const WIDTH: Width = C::WIDTH;
    const LINES: usize = QUADS;
    const STREAMED: bool = false;
    const SCALES: usize = C::SCALES;
    const ZERO: i32 = C::ZERO;
    type Sums = C::Sums;
}

/// The codes of column quad `Q` of a group, of which `nibbles` are the low 4 bits.
#[inline(always)]
pub(super) fn whole<S: Simd, C: Codes, const Q: usize>(
    simd: S,
    (lines, part): (&[Line], usize),
    nibbles: S::Codes,
) -> S::Codes {
    match C::WIDTH {
        Width::Four | Width::Eight => nibbles,
        // Bit `Q` goes to bit 4.
        Width::Five => {
            let bits = simd.codes(&lines[4].0, part);
            simd.or_bits(nibbles, bits, 4 - Q as i32, 1 << 4)
        }
        // Bits `2 (Q mod 4)` and the one above go to bits 4 and 5.
        Width::Six => {
            let pairs = simd.codes(&lines[4 + Q / 4].0, part);
            simd.or_bits(nibbles, pairs, 4 - 2 * (Q as i32 % 4), 3 << 4)
        }
    }
}

/// The sums of codes `C`.
pub(super) type SumOf<S, C> = <<C as Codes>::Sums as Sums>::Sum<S>;

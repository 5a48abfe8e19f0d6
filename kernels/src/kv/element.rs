//! The numbers a page is made of: how they are made from f32 and read back.

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]

use super::GROUP_DIMS;
use crate::KvDtype;
use crate::simd::lanes::{LANES, Lanes};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// A stored number. Every bit pattern is a value, and zero bytes are zero.
pub(crate) trait Element: Copy + Send + Sync + std::fmt::Debug + 'static {
    /// The format's name in a layout.
    const DTYPE: KvDtype;

    /// Zero.
    const ZERO: Self;

    /// Whether it is a code, to be multiplied by the scale of its group of dims.
    const SCALED: bool = false;

    /// The nearest stored numbers: ties to even, beyond the range the largest. NaN stays NaN.
    /// `to` is as long as `from`; `scales` are those of its groups.
    fn narrow(from: &[f32], to: &mut [Self], scales: &mut [bf16]);

    /// The stored number, exactly.
    fn widen(self, scale: bf16) -> f32;

    /// 16 stored numbers, exactly.
    fn load<L: Lanes>(l: L, from: &[Self; LANES], scale: L::V) -> L::V;
}

impl Element for f32 {
    const DTYPE: KvDtype = KvDtype::F32;

    const ZERO: Self = 0.0;

    fn narrow(from: &[f32], to: &mut [Self], _: &mut [bf16]) {
        to.copy_from_slice(from);
    }

    fn widen(self, _: bf16) -> f32 {
        self
    }

    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[Self; LANES], _: L::V) -> L::V {
        l.load(from)
    }
}

impl Element for f16 {
    const DTYPE: KvDtype = KvDtype::F16;

    const ZERO: Self = Self::ZERO;

    fn narrow(from: &[f32], to: &mut [Self], _: &mut [bf16]) {
        saturate(from, to, Self::MAX.to_f32(), |from, to| to.convert_from_f32_slice(from));
    }

    fn widen(self, _: bf16) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[Self; LANES], _: L::V) -> L::V {
        l.load_f16(from)
    }
}

impl Element for bf16 {
    const DTYPE: KvDtype = KvDtype::Bf16;

    const ZERO: Self = Self::ZERO;

    fn narrow(from: &[f32], to: &mut [Self], _: &mut [bf16]) {
        saturate(from, to, Self::MAX.to_f32(), |from, to| to.convert_from_f32_slice(from));
    }

    fn widen(self, _: bf16) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[Self; LANES], _: L::V) -> L::V {
        l.load_bf16(from)
    }
}

/// Scales are bfloat16, so that a code times its scale is an f32 exactly.
impl Element for i8 {
    const DTYPE: KvDtype = KvDtype::Int8;

    const ZERO: Self = 0;

    const SCALED: bool = true;

    fn narrow(from: &[f32], to: &mut [Self], scales: &mut [bf16]) {
        let groups = from.chunks(GROUP_DIMS).zip(to.chunks_mut(GROUP_DIMS));
        for ((from, to), scale) in groups.zip(scales) {
            let magnitude = from.iter().fold(0.0_f32, |max, x| max.max(x.abs())).min(LARGEST);
            *scale = rounded_up(magnitude / CODE_MAX);
            if from.iter().any(|x| x.is_nan()) {
                *scale = bf16::NAN;
            }
            let by = scale.to_f32();
            for (to, x) in to.iter_mut().zip(from) {
                // Of zeros by zero there is nothing to code, nor of what is no number.
                let code = if by > 0.0 { x.clamp(-LARGEST, LARGEST) / by } else { 0.0 };
                *to = ((code + ROUNDING) - ROUNDING) as i8;
            }
        }
    }

    fn widen(self, scale: bf16) -> f32 {
        f32::from(self) * scale_of(scale)
    }

    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[Self; LANES], scale: L::V) -> L::V {
        l.mul(l.load_i8(from), scale)
    }
}

/// A scale as a float.
#[inline(always)]
pub(crate) fn scale_of(stored: bf16) -> f32 {
    f32::from_bits(u32::from(stored.to_bits()) << 16)
}

/// The largest code.
const CODE_MAX: f32 = 127.0;

/// The largest number that is stored as a code.
const LARGEST: f32 = 65504.0;

/// Added to and taken from a small number, it rounds it to the nearest integer.
const ROUNDING: f32 = 1.5 * (1 << 23) as f32;

/// The smallest bfloat16 that is not below `x`, which is not negative.
fn rounded_up(x: f32) -> bf16 {
    bf16::from_bits(((x.to_bits() + 0xffff) >> 16) as u16)
}

/// Converts numbers clamped to `±largest`.
fn saturate<E>(from: &[f32], to: &mut [E], largest: f32, convert: impl Fn(&[f32], &mut [E])) {
    assert_eq!(from.len(), to.len(), "a place for each number");
    let mut clamped = [0.0; 64];
    for (from, to) in from.chunks(64).zip(to.chunks_mut(64)) {
        let clamped = &mut clamped[..from.len()];
        clamped.iter_mut().zip(from).for_each(|(c, x)| *c = x.clamp(-largest, largest));
        convert(clamped, to);
    }
}

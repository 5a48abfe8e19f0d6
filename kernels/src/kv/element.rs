//! The numbers a page is made of: how they are made from f32 and read back.

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]

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

    /// The nearest stored numbers: ties to even, beyond the range the largest. NaN stays NaN.
    /// `to` is as long as `from`.
    fn narrow(from: &[f32], to: &mut [Self]);

    /// The stored number, exactly.
    fn widen(self) -> f32;

    /// 16 stored numbers, exactly.
    fn load<L: Lanes>(l: L, from: &[Self; LANES]) -> L::V;
}

impl Element for f32 {
    const DTYPE: KvDtype = KvDtype::F32;

    const ZERO: Self = 0.0;

    fn narrow(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }

    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[Self; LANES]) -> L::V {
        l.load(from)
    }
}

impl Element for f16 {
    const DTYPE: KvDtype = KvDtype::F16;

    const ZERO: Self = Self::ZERO;

    fn narrow(from: &[f32], to: &mut [Self]) {
        saturate(from, to, Self::MAX.to_f32(), |from, to| to.convert_from_f32_slice(from));
    }

    fn widen(self) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[Self; LANES]) -> L::V {
        l.load_f16(from)
    }
}

impl Element for bf16 {
    const DTYPE: KvDtype = KvDtype::Bf16;

    const ZERO: Self = Self::ZERO;

    fn narrow(from: &[f32], to: &mut [Self]) {
        saturate(from, to, Self::MAX.to_f32(), |from, to| to.convert_from_f32_slice(from));
    }

    fn widen(self) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[Self; LANES]) -> L::V {
        l.load_bf16(from)
    }
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

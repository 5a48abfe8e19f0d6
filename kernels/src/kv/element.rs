//! The numbers a page is made of: how they are made from f32 and read back.

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]

use crate::KvDtype;
use crate::simd::lanes::{LANES, Lanes};
use half::{bf16, f16};

/// A stored number. Every bit pattern is a value, and zero bytes are zero.
pub(crate) trait Element: Copy + Send + Sync + std::fmt::Debug + 'static {
    /// The format's name in a layout.
    const DTYPE: KvDtype;

    /// The nearest stored number: ties to even, beyond the range the largest. NaN stays NaN.
    fn narrow(x: f32) -> Self;

    /// The stored number, exactly.
    fn widen(self) -> f32;

    /// 16 stored numbers, exactly.
    fn load<L: Lanes>(l: L, from: &[Self; LANES]) -> L::V;
}

impl Element for f32 {
    const DTYPE: KvDtype = KvDtype::F32;

    fn narrow(x: f32) -> Self {
        x
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

    fn narrow(x: f32) -> Self {
        Self::from_f32(x.clamp(Self::MIN.to_f32(), Self::MAX.to_f32()))
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

    fn narrow(x: f32) -> Self {
        Self::from_f32(x.clamp(Self::MIN.to_f32(), Self::MAX.to_f32()))
    }

    fn widen(self) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[Self; LANES]) -> L::V {
        l.load_bf16(from)
    }
}

//! [`Simd`] in plain Rust, for any machine.

use super::{LANES, Simd, Vectorized};
use half::{bf16, f16};
use std::array::from_fn;

/// Plain Rust; needs nothing of the machine.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

/// Runs `work` in plain Rust.
#[inline(never)]
pub(super) fn run(work: impl Vectorized) {
    work.run(Scalar);
}

impl Simd for Scalar {
    const PARTS: usize = 1;
    const ROWS: usize = 1;
    const PANELS: usize = 1;
    type F32 = [f32; LANES];
    type Codes = [u8; 4 * LANES];
    type Dot4 = [i32; LANES];
    type Dot8 = [i32; LANES];

    #[inline(always)]
    fn call(self, work: impl Vectorized) {
        run(work);
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F32 {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES], _part: usize) -> Self::F32 {
        *from
    }

    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES], _part: usize) -> Self::F32 {
        from.map(|bits| f16::from_bits(bits).to_f32_const())
    }

    #[inline(always)]
    fn load_bf16(self, from: &[u16; LANES], _part: usize) -> Self::F32 {
        from.map(|bits| bf16::from_bits(bits).to_f32_const())
    }

    #[inline(always)]
    fn load_u8(self, from: &[u8; LANES], _part: usize) -> Self::F32 {
        from.map(f32::from)
    }

    #[inline(always)]
    fn load_i8(self, from: &[u8; LANES], _part: usize) -> Self::F32 {
        from.map(|byte| f32::from(byte.cast_signed()))
    }

    #[inline(always)]
    fn store(self, value: Self::F32, to: &mut [f32; LANES], _part: usize) {
        *to = value;
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        // Not f32::mul_add: without the instruction it is a slow library call.
        from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn codes(self, from: &[u8; 4 * LANES], _part: usize) -> Self::Codes {
        *from
    }

    #[inline(always)]
    fn store_codes(self, codes: Self::Codes, to: &mut [u8; 4 * LANES], _part: usize) {
        *to = codes;
    }

    #[inline(always)]
    fn low(self, codes: Self::Codes) -> Self::Codes {
        codes.map(|code| code & 15)
    }

    #[inline(always)]
    fn high(self, codes: Self::Codes) -> Self::Codes {
        codes.map(|code| code >> 4)
    }

    #[inline(always)]
    fn or_bits(self, codes: Self::Codes, from: Self::Codes, left: i32, mask: u8) -> Self::Codes {
        from_fn(|i| {
            let shifted = if left < 0 { from[i] >> -left } else { from[i] << left };
            codes[i] | (shifted & mask)
        })
    }

    #[inline(always)]
    fn dot4_from(self, start: i32) -> Self::Dot4 {
        [start; LANES]
    }

    #[inline(always)]
    fn dot4(self, sum: Self::Dot4, codes: Self::Codes, x: [i8; 4]) -> Self::Dot4 {
        self.dot8(sum, codes, x)
    }

    #[inline(always)]
    fn dot4_scaled(self, sum: Self::Dot4, start: i32, scale: Self::F32) -> Self::F32 {
        self.dot8_scaled(sum, start, scale)
    }

    #[inline(always)]
    fn dot8_from(self, start: i32) -> Self::Dot8 {
        [start; LANES]
    }

    #[inline(always)]
    fn dot8(self, sum: Self::Dot8, codes: Self::Codes, x: [i8; 4]) -> Self::Dot8 {
        from_fn(|i| {
            let products = (0..4).map(|k| i32::from(codes[4 * i + k]) * i32::from(x[k]));
            sum[i] + products.sum::<i32>()
        })
    }

    #[inline(always)]
    fn dot8_scaled(self, sum: Self::Dot8, _start: i32, scale: Self::F32) -> Self::F32 {
        from_fn(|i| sum[i] as f32 * scale[i])
    }
}

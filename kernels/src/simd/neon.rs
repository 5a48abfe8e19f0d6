//! [`Simd`] with NEON, which every AArch64 has.
//!
//! `smlal` multiplies signed bytes into sums of 16 bits, of single products here: 8 products of a
//! 4-bit code and a byte stay within 8 · 15 · 127 = 15240. Codes of 8 bits fit no signed byte, so
//! they are multiplied as two nibbles.
//!
//! On other machines the intrinsics are those of `emulated`, so that tests run this very text.

#[cfg(not(target_arch = "aarch64"))]
pub(super) mod emulated;
#[cfg(not(target_arch = "aarch64"))]
pub(super) use emulated as intrinsics;
#[cfg(target_arch = "aarch64")]
pub(super) use std::arch::aarch64 as intrinsics;

use super::{LANES, Simd, Vectorized};
use intrinsics::{
    float32x4_t, int16x8_t, int32x4_t, uint8x16_t, vaddq_s32, vandq_u8, vcreate_s8, vcreate_u8,
    vcvt_f32_f16, vcvtq_f32_s32, vcvtq_f32_u32, vdupq_n_f32, vdupq_n_s8, vdupq_n_s16, vdupq_n_s32,
    vdupq_n_u8, vfmaq_f32, vget_low_s8, vget_low_s16, vget_low_u16, vld1_u16, vld1q_f32, vld1q_u8,
    vmlal_high_s8, vmlal_s8, vmovl_s8, vmovl_s16, vmovl_u8, vmovl_u16, vmulq_f32, vorrq_u8,
    vpaddlq_s16, vpaddq_s32, vreinterpret_f16_u16, vreinterpretq_f32_u32, vreinterpretq_s8_s32,
    vreinterpretq_s8_u8, vshlq_n_s32, vshlq_n_u32, vshlq_u8, vshrq_n_u8, vst1q_f32, vst1q_u8,
};

/// NEON, which needs no proof.
#[derive(Clone, Copy)]
pub(super) struct Neon;

/// Runs `work` with NEON.
#[inline(never)]
pub(super) fn run(work: impl Vectorized) {
    work.run(Neon);
}

/// Lanes of a register.
const QUARTER: usize = LANES / 4;

impl Simd for Neon {
    const PARTS: usize = 4;
    const ROWS: usize = 4;
    const PANELS: usize = 1;
    type F32 = float32x4_t;
    type Codes = uint8x16_t;
    /// Of the first and the last two lanes, 4 sums for each.
    type Dot4 = [int16x8_t; 2];
    /// Of the low and the high nibbles.
    type Dot8 = [[int16x8_t; 2]; 2];

    #[inline(always)]
    fn call(self, work: impl Vectorized) {
        run(work);
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F32 {
        // SAFETY: every AArch64 has NEON.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES], part: usize) -> Self::F32 {
        let part: &[f32] = &from[part * QUARTER..][..QUARTER];
        // SAFETY: every AArch64 has NEON; the slice has 4 floats.
        unsafe { vld1q_f32(part.as_ptr()) }
    }

    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES], part: usize) -> Self::F32 {
        let part: &[u16] = &from[part * QUARTER..][..QUARTER];
        // SAFETY: every AArch64 has NEON; the slice has 4 numbers.
        unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(part.as_ptr()))) }
    }

    #[inline(always)]
    fn load_bf16(self, from: &[u16; LANES], part: usize) -> Self::F32 {
        let part: &[u16] = &from[part * QUARTER..][..QUARTER];
        // SAFETY: every AArch64 has NEON; the slice has 4 numbers.
        unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vmovl_u16(vld1_u16(part.as_ptr())))) }
    }

    #[inline(always)]
    fn load_u8(self, from: &[u8; LANES], part: usize) -> Self::F32 {
        let bytes = u64::from(four(from, part));
        // SAFETY: every AArch64 has NEON.
        unsafe { vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bytes))))) }
    }

    #[inline(always)]
    fn load_i8(self, from: &[u8; LANES], part: usize) -> Self::F32 {
        let bytes = u64::from(four(from, part));
        // SAFETY: every AArch64 has NEON.
        unsafe { vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(bytes))))) }
    }

    #[inline(always)]
    fn store(self, value: Self::F32, to: &mut [f32; LANES], part: usize) {
        let part: &mut [f32] = &mut to[part * QUARTER..][..QUARTER];
        // SAFETY: every AArch64 has NEON; the slice has 4 floats.
        unsafe { vst1q_f32(part.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: every AArch64 has NEON.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        // SAFETY: every AArch64 has NEON.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn codes(self, from: &[u8; 4 * LANES], part: usize) -> Self::Codes {
        let part: &[u8] = &from[part * 4 * QUARTER..][..4 * QUARTER];
        // SAFETY: every AArch64 has NEON; the slice has 16 bytes.
        unsafe { vld1q_u8(part.as_ptr()) }
    }

    #[inline(always)]
    fn store_codes(self, codes: Self::Codes, to: &mut [u8; 4 * LANES], part: usize) {
        let part: &mut [u8] = &mut to[part * 4 * QUARTER..][..4 * QUARTER];
        // SAFETY: every AArch64 has NEON; the slice has 16 bytes.
        unsafe { vst1q_u8(part.as_mut_ptr(), codes) }
    }

    #[inline(always)]
    fn low(self, codes: Self::Codes) -> Self::Codes {
        // SAFETY: every AArch64 has NEON.
        unsafe { vandq_u8(codes, vdupq_n_u8(15)) }
    }

    #[inline(always)]
    fn high(self, codes: Self::Codes) -> Self::Codes {
        // SAFETY: every AArch64 has NEON.
        unsafe { vshrq_n_u8::<4>(codes) }
    }

    #[inline(always)]
    fn or_bits(self, codes: Self::Codes, from: Self::Codes, left: i32, mask: u8) -> Self::Codes {
        // SAFETY: every AArch64 has NEON.
        unsafe {
            // To the right where negative.
            let shifted = vshlq_u8(from, vdupq_n_s8(left as i8));
            vorrq_u8(codes, vandq_u8(shifted, vdupq_n_u8(mask)))
        }
    }

    #[inline(always)]
    fn dot4_from(self, _start: i32) -> Self::Dot4 {
        // SAFETY: every AArch64 has NEON.
        unsafe { [vdupq_n_s16(0); 2] }
    }

    #[inline(always)]
    fn dot4(self, sum: Self::Dot4, codes: Self::Codes, x: [i8; 4]) -> Self::Dot4 {
        let x = i32::from_le_bytes(x.map(i8::cast_unsigned));
        // SAFETY: every AArch64 has NEON.
        unsafe {
            let codes = vreinterpretq_s8_u8(codes);
            let x = vreinterpretq_s8_s32(vdupq_n_s32(x));
            [vmlal_s8(sum[0], vget_low_s8(codes), vget_low_s8(x)), vmlal_high_s8(sum[1], codes, x)]
        }
    }

    #[inline(always)]
    fn dot4_scaled(self, sum: Self::Dot4, start: i32, scale: Self::F32) -> Self::F32 {
        // SAFETY: every AArch64 has NEON.
        unsafe {
            let sum = vaddq_s32(by_lane(sum), vdupq_n_s32(start));
            vmulq_f32(vcvtq_f32_s32(sum), scale)
        }
    }

    #[inline(always)]
    fn dot8_from(self, start: i32) -> Self::Dot8 {
        [self.dot4_from(start); 2]
    }

    #[inline(always)]
    fn dot8(self, sum: Self::Dot8, codes: Self::Codes, x: [i8; 4]) -> Self::Dot8 {
        [self.dot4(sum[0], self.low(codes), x), self.dot4(sum[1], self.high(codes), x)]
    }

    #[inline(always)]
    fn dot8_scaled(self, sum: Self::Dot8, start: i32, scale: Self::F32) -> Self::F32 {
        // SAFETY: every AArch64 has NEON.
        unsafe {
            let sum = vaddq_s32(by_lane(sum[0]), vshlq_n_s32::<4>(by_lane(sum[1])));
            vmulq_f32(vcvtq_f32_s32(vaddq_s32(sum, vdupq_n_s32(start))), scale)
        }
    }
}

/// Part `part` of 16 bytes.
#[inline(always)]
fn four(from: &[u8; LANES], part: usize) -> u32 {
    u32::from_le_bytes(from.as_chunks().0[part])
}

/// The sums of 4 lanes.
#[inline(always)]
fn by_lane(sum: [int16x8_t; 2]) -> int32x4_t {
    // SAFETY: every AArch64 has NEON.
    unsafe { vpaddq_s32(vpaddlq_s16(sum[0]), vpaddlq_s16(sum[1])) }
}

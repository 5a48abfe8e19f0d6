//! [`Simd`] with AVX2, FMA and F16C.
//!
//! `vpmaddubsw` adds two products in 16 bits and saturates, so 8-bit codes are multiplied as two
//! nibbles: 8 sums of two products of at most 15 · 127 stay within 30480.

use super::{LANES, Simd, Vectorized};
use std::arch::x86_64::{
    __m256, __m256i, _mm_loadl_epi64, _mm_loadu_si128, _mm256_add_epi16, _mm256_add_epi32,
    _mm256_and_si256, _mm256_castsi256_ps, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps,
    _mm256_cvtepu8_epi32, _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_or_si256,
    _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256,
    _mm256_slli_epi16, _mm256_slli_epi32, _mm256_srli_epi16, _mm256_storeu_ps, _mm256_storeu_si256,
};

/// Proof that the machine has AVX2, FMA and F16C: made by [`run`] only.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// Runs `work` compiled for AVX2.
///
/// # Safety
/// The machine has AVX2, FMA and F16C.
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run(work: impl Vectorized) {
    work.run(Avx2(()));
}

/// Lanes of a register.
const HALF: usize = LANES / 2;

impl Simd for Avx2 {
    const PARTS: usize = 2;
    const ROWS: usize = 4;
    const PANELS: usize = 1;
    type F32 = __m256;
    type Codes = __m256i;
    type Dot4 = __m256i;
    /// Of the low and the high nibbles.
    type Dot8 = [__m256i; 2];

    #[inline(always)]
    fn call(self, work: impl Vectorized) {
        // SAFETY: `self` proves the features.
        unsafe { run(work) };
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F32 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES], part: usize) -> Self::F32 {
        let part: &[f32] = &from[part * HALF..][..HALF];
        // SAFETY: `self` proves the features; the slice has 8 floats.
        unsafe { _mm256_loadu_ps(part.as_ptr()) }
    }

    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES], part: usize) -> Self::F32 {
        let part: &[u16] = &from[part * HALF..][..HALF];
        // SAFETY: `self` proves the features; the slice has 16 bytes.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(part.as_ptr().cast())) }
    }

    #[inline(always)]
    fn load_bf16(self, from: &[u16; LANES], part: usize) -> Self::F32 {
        let part: &[u16] = &from[part * HALF..][..HALF];
        // SAFETY: `self` proves the features; the slice has 16 bytes.
        unsafe {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(part.as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        }
    }

    #[inline(always)]
    fn load_u8(self, from: &[u8; LANES], part: usize) -> Self::F32 {
        let part: &[u8] = &from[part * HALF..][..HALF];
        // SAFETY: `self` proves the features; the slice has 8 bytes.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(part.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn load_i8(self, from: &[u8; LANES], part: usize) -> Self::F32 {
        let part: &[u8] = &from[part * HALF..][..HALF];
        // SAFETY: `self` proves the features; the slice has 8 bytes.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(part.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn store(self, value: Self::F32, to: &mut [f32; LANES], part: usize) {
        let part: &mut [f32] = &mut to[part * HALF..][..HALF];
        // SAFETY: `self` proves the features; the slice has 8 floats.
        unsafe { _mm256_storeu_ps(part.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn codes(self, from: &[u8; 4 * LANES], part: usize) -> Self::Codes {
        let part: &[u8] = &from[part * 4 * HALF..][..4 * HALF];
        // SAFETY: `self` proves the features; the slice has 32 bytes.
        unsafe { _mm256_loadu_si256(part.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_codes(self, codes: Self::Codes, to: &mut [u8; 4 * LANES], part: usize) {
        let part: &mut [u8] = &mut to[part * 4 * HALF..][..4 * HALF];
        // SAFETY: `self` proves the features; the slice has 32 bytes.
        unsafe { _mm256_storeu_si256(part.as_mut_ptr().cast(), codes) }
    }

    #[inline(always)]
    fn low(self, codes: Self::Codes) -> Self::Codes {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_and_si256(codes, _mm256_set1_epi8(15)) }
    }

    #[inline(always)]
    fn high(self, codes: Self::Codes) -> Self::Codes {
        // SAFETY: `self` proves the features.
        self.low(unsafe { _mm256_srli_epi16::<4>(codes) })
    }

    #[inline(always)]
    fn or_bits(self, codes: Self::Codes, from: Self::Codes, left: i32, mask: u8) -> Self::Codes {
        // SAFETY: `self` proves the features.
        unsafe {
            let shifted = match left {
                4 => _mm256_slli_epi16::<4>(from),
                3 => _mm256_slli_epi16::<3>(from),
                2 => _mm256_slli_epi16::<2>(from),
                1 => _mm256_slli_epi16::<1>(from),
                0 => from,
                -1 => _mm256_srli_epi16::<1>(from),
                -2 => _mm256_srli_epi16::<2>(from),
                -3 => _mm256_srli_epi16::<3>(from),
                _ => _mm256_srli_epi16::<4>(from),
            };
            let kept = _mm256_and_si256(shifted, _mm256_set1_epi8(mask as i8));
            _mm256_or_si256(codes, kept)
        }
    }

    #[inline(always)]
    fn dot4_from(self, _start: i32) -> Self::Dot4 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    fn dot4(self, sum: Self::Dot4, codes: Self::Codes, x: [i8; 4]) -> Self::Dot4 {
        let x = i32::from_le_bytes(x.map(i8::cast_unsigned));
        // SAFETY: `self` proves the features.
        unsafe { _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, _mm256_set1_epi32(x))) }
    }

    #[inline(always)]
    fn dot4_scaled(self, sum: Self::Dot4, start: i32, scale: Self::F32) -> Self::F32 {
        // SAFETY: `self` proves the features.
        unsafe {
            let sum = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
            let sum = _mm256_cvtepi32_ps(_mm256_add_epi32(sum, _mm256_set1_epi32(start)));
            _mm256_mul_ps(sum, scale)
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
        // SAFETY: `self` proves the features.
        unsafe {
            let low = _mm256_madd_epi16(sum[0], _mm256_set1_epi16(1));
            let high = _mm256_madd_epi16(sum[1], _mm256_set1_epi16(16));
            let sum = _mm256_add_epi32(low, high);
            let sum = _mm256_cvtepi32_ps(_mm256_add_epi32(sum, _mm256_set1_epi32(start)));
            _mm256_mul_ps(sum, scale)
        }
    }
}

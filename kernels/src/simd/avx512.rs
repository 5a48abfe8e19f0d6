//! [`Simd`] with AVX-512, with and without VNNI.
//!
//! With VNNI, `vpdpbusd` multiplies unsigned codes with signed bytes and adds four products in 32
//! bits, exactly. Without, products go through `vpmaddubsw` as nibbles, as in [`super::avx2`].

use super::{LANES, Simd, Vectorized};
use std::arch::x86_64::{
    __m512, __m512i, _mm_loadu_si128, _mm256_loadu_si256, _mm512_add_epi16, _mm512_add_epi32,
    _mm512_and_si512, _mm512_castsi512_ps, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps,
    _mm512_cvtepu8_epi32, _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_dpbusd_epi32,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_madd_epi16, _mm512_maddubs_epi16,
    _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_si512, _mm512_slli_epi16, _mm512_slli_epi32, _mm512_srli_epi16,
    _mm512_storeu_ps, _mm512_storeu_si512, _mm512_ternarylogic_epi32,
};

/// 1.5 · 2^23: the float whose last bit is worth 1, in the middle of those. Sums of products start
/// from its bits, so they are the bits of `MAGIC + sum`, exactly, and one multiply-add with
/// `-MAGIC · scale` (exact for scales of up to 22 bits) makes the rounded `sum · scale` of them.
const MAGIC: f32 = 12_582_912.0;
const MAGIC_BITS: i32 = MAGIC.to_bits().cast_signed();

/// Proof that the machine has AVX-512 F, BW, DQ and VL (and VNNI): made by [`run`] and
/// [`run_vnni`] only.
#[derive(Clone, Copy)]
pub(super) struct Avx512<const VNNI: bool>(());

/// Runs `work` compiled for AVX-512 without VNNI.
///
/// # Safety
/// The machine has AVX-512 F, BW, DQ and VL, and what [`super::avx2::run`] needs.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) unsafe fn run(work: impl Vectorized) {
    work.run(Avx512::<false>(()));
}

/// Runs `work` compiled for AVX-512 with VNNI.
///
/// # Safety
/// The machine has AVX-512 VNNI, and what [`run`] needs.
#[inline(never)]
#[target_feature(enable = "avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) unsafe fn run_vnni(work: impl Vectorized) {
    work.run(Avx512::<true>(()));
}

impl<const VNNI: bool> Simd for Avx512<VNNI> {
    const PARTS: usize = 1;
    const ROWS: usize = 8;
    const PANELS: usize = if VNNI { 2 } else { 1 };
    type F32 = __m512;
    type Codes = __m512i;
    type Dot4 = __m512i;
    /// Of the low and the high nibbles; with VNNI the first alone.
    type Dot8 = [__m512i; 2];

    #[inline(always)]
    fn call(self, work: impl Vectorized) {
        // SAFETY: `self` proves the features, with VNNI where the parameter says so.
        unsafe { if VNNI { run_vnni(work) } else { run(work) } };
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F32 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES], _part: usize) -> Self::F32 {
        // SAFETY: `self` proves the features; there are 16 floats.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES], _part: usize) -> Self::F32 {
        // SAFETY: `self` proves the features; there are 32 bytes.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) }
    }

    #[inline(always)]
    fn load_bf16(self, from: &[u16; LANES], _part: usize) -> Self::F32 {
        // SAFETY: `self` proves the features; there are 32 bytes.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }

    #[inline(always)]
    fn load_u8(self, from: &[u8; LANES], _part: usize) -> Self::F32 {
        // SAFETY: `self` proves the features; there are 16 bytes.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn load_i8(self, from: &[u8; LANES], _part: usize) -> Self::F32 {
        // SAFETY: `self` proves the features; there are 16 bytes.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn store(self, value: Self::F32, to: &mut [f32; LANES], _part: usize) {
        // SAFETY: `self` proves the features; there are 16 floats.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn codes(self, from: &[u8; 4 * LANES], _part: usize) -> Self::Codes {
        // SAFETY: `self` proves the features; there are 64 bytes.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_codes(self, codes: Self::Codes, to: &mut [u8; 4 * LANES], _part: usize) {
        // SAFETY: `self` proves the features; there are 64 bytes.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), codes) }
    }

    #[inline(always)]
    fn low(self, codes: Self::Codes) -> Self::Codes {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_and_si512(codes, _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    fn high(self, codes: Self::Codes) -> Self::Codes {
        // SAFETY: `self` proves the features.
        self.low(unsafe { _mm512_srli_epi16::<4>(codes) })
    }

    #[inline(always)]
    fn or_bits(self, codes: Self::Codes, from: Self::Codes, left: i32, mask: u8) -> Self::Codes {
        // SAFETY: `self` proves the features.
        unsafe {
            let shifted = match left {
                4 => _mm512_slli_epi16::<4>(from),
                3 => _mm512_slli_epi16::<3>(from),
                2 => _mm512_slli_epi16::<2>(from),
                1 => _mm512_slli_epi16::<1>(from),
                0 => from,
                -1 => _mm512_srli_epi16::<1>(from),
                -2 => _mm512_srli_epi16::<2>(from),
                -3 => _mm512_srli_epi16::<3>(from),
                _ => _mm512_srli_epi16::<4>(from),
            };
            // a | (b & c)
            _mm512_ternarylogic_epi32::<0xf8>(codes, shifted, _mm512_set1_epi8(mask as i8))
        }
    }

    #[inline(always)]
    fn dot4_from(self, start: i32) -> Self::Dot4 {
        // SAFETY: `self` proves the features.
        unsafe { if VNNI { _mm512_set1_epi32(MAGIC_BITS + start) } else { _mm512_setzero_si512() } }
    }

    #[inline(always)]
    fn dot4(self, sum: Self::Dot4, codes: Self::Codes, x: [i8; 4]) -> Self::Dot4 {
        let x = i32::from_le_bytes(x.map(i8::cast_unsigned));
        // SAFETY: `self` proves the features, with VNNI where the parameter says so.
        unsafe {
            if VNNI {
                _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(x))
            } else {
                _mm512_add_epi16(sum, _mm512_maddubs_epi16(codes, _mm512_set1_epi32(x)))
            }
        }
    }

    #[inline(always)]
    fn dot4_scaled(self, sum: Self::Dot4, start: i32, scale: Self::F32) -> Self::F32 {
        // SAFETY: `self` proves the features.
        unsafe {
            if VNNI {
                let shift = _mm512_mul_ps(scale, _mm512_set1_ps(-MAGIC));
                return _mm512_fmadd_ps(_mm512_castsi512_ps(sum), scale, shift);
            }
            let sum = _mm512_madd_epi16(sum, _mm512_set1_epi16(1));
            let sum = _mm512_cvtepi32_ps(_mm512_add_epi32(sum, _mm512_set1_epi32(start)));
            _mm512_mul_ps(sum, scale)
        }
    }

    #[inline(always)]
    fn dot8_from(self, start: i32) -> Self::Dot8 {
        [self.dot4_from(start); 2]
    }

    #[inline(always)]
    fn dot8(self, sum: Self::Dot8, codes: Self::Codes, x: [i8; 4]) -> Self::Dot8 {
        if VNNI {
            return [self.dot4(sum[0], codes, x), sum[1]];
        }
        [self.dot4(sum[0], self.low(codes), x), self.dot4(sum[1], self.high(codes), x)]
    }

    #[inline(always)]
    fn dot8_scaled(self, sum: Self::Dot8, start: i32, scale: Self::F32) -> Self::F32 {
        if VNNI {
            return self.dot4_scaled(sum[0], start, scale);
        }
        // SAFETY: `self` proves the features.
        unsafe {
            let low = _mm512_madd_epi16(sum[0], _mm512_set1_epi16(1));
            let high = _mm512_madd_epi16(sum[1], _mm512_set1_epi16(16));
            let sum = _mm512_add_epi32(low, high);
            let sum = _mm512_cvtepi32_ps(_mm512_add_epi32(sum, _mm512_set1_epi32(start)));
            _mm512_mul_ps(sum, scale)
        }
    }
}

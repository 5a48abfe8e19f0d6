//! Sixteen lanes in two AVX registers, with FMA and F16C.

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]
#![expect(clippy::cast_ptr_alignment, reason = "unaligned loads")]
#![expect(clippy::undocumented_unsafe_blocks, reason = "one argument for all, at Avx2")]

use super::{LANES, Lanes, OnLanes};
use half::{bf16, f16};
use std::arch::x86_64::{
    __m128i, __m256, _CMP_LT_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm_cvtss_f32,
    _mm_loadl_epi64, _mm_loadu_si128, _mm_max_ps, _mm_max_ss, _mm_movehl_ps, _mm_shuffle_ps,
    _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_blendv_ps, _mm256_castps256_ps128,
    _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cmpeq_epi32, _mm256_cvtepi8_epi32,
    _mm256_cvtepi32_ps, _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_cvtps_epi32, _mm256_div_ps,
    _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_mul_ps,
    _mm256_round_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_slli_epi32,
    _mm256_sllv_epi32, _mm256_storeu_ps, _mm256_sub_ps,
};

/// SAFETY (of every block here): a value of this type is made in [`run`] only, whose caller
/// promises AVX2, FMA and F16C; loads and stores are unaligned and go through references to
/// whole arrays of 16.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

type V = [__m256; 2];

/// Runs `work` with AVX2.
///
/// # Safety
/// The machine has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run(work: impl OnLanes) {
    work.run(Avx2(()));
}

#[inline(always)]
fn both(f: impl Fn(usize) -> __m256) -> V {
    [f(0), f(1)]
}

impl Lanes for Avx2 {
    type V = V;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> V {
        let p = from.as_ptr();
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    fn load_f16(self, from: &[f16; LANES]) -> V {
        let p = from.as_ptr().cast::<__m128i>();
        unsafe {
            let (a, b) = (_mm_loadu_si128(p), _mm_loadu_si128(p.add(1)));
            [_mm256_cvtph_ps(a), _mm256_cvtph_ps(b)]
        }
    }
    #[inline(always)]
    fn load_bf16(self, from: &[bf16; LANES]) -> V {
        let p = from.as_ptr().cast::<__m128i>();
        let widen =
            |x| unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(x))) };
        unsafe { [widen(_mm_loadu_si128(p)), widen(_mm_loadu_si128(p.add(1)))] }
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> V {
        let p = from.as_ptr();
        unsafe {
            let low = _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()));
            let high = _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.add(8).cast()));
            [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]
        }
    }
    #[inline(always)]
    fn store(self, v: V, to: &mut [f32; LANES]) {
        let p = to.as_mut_ptr();
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        both(|i| unsafe { _mm256_add_ps(a[i], b[i]) })
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        both(|i| unsafe { _mm256_sub_ps(a[i], b[i]) })
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        both(|i| unsafe { _mm256_mul_ps(a[i], b[i]) })
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        both(|i| unsafe { _mm256_div_ps(a[i], b[i]) })
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        both(|i| unsafe { _mm256_max_ps(a[i], b[i]) })
    }
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        both(|i| unsafe { _mm256_fmadd_ps(a[i], b[i], c[i]) })
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        both(|i| unsafe { _mm256_round_ps::<NEAREST>(a[i]) })
    }
    #[inline(always)]
    fn scaled(self, a: V, n: V) -> V {
        both(|i| unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n[i]), _mm256_set1_epi32(127));
            _mm256_mul_ps(a[i], _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
        })
    }
    #[inline(always)]
    fn where_less(self, a: V, b: V, then: V, otherwise: V) -> V {
        both(|i| unsafe {
            let less = _mm256_cmp_ps::<_CMP_LT_OQ>(a[i], b[i]);
            _mm256_blendv_ps(otherwise[i], then[i], less)
        })
    }
    #[inline(always)]
    fn keep(self, a: V, bits: u16, fill: V) -> V {
        both(|i| unsafe {
            let own = _mm256_sllv_epi32(
                _mm256_set1_epi32(1 << (8 * i)),
                _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
            );
            let set = _mm256_and_si256(_mm256_set1_epi32(i32::from(bits)), own);
            let kept = _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, own));
            _mm256_blendv_ps(fill[i], a[i], kept)
        })
    }
    #[inline(always)]
    fn largest(self, a: V) -> f32 {
        unsafe { largest_of_eight(_mm256_max_ps(a[0], a[1])) }
    }
}

/// The largest of 8 lanes.
///
/// # Safety
/// The machine has AVX.
#[inline(always)]
pub(super) unsafe fn largest_of_eight(a: __m256) -> f32 {
    unsafe {
        let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
}

//! Sixteen lanes in four NEON registers.

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]
#![expect(clippy::undocumented_unsafe_blocks, reason = "one argument for all, at Neon")]

use super::{LANES, Lanes, OnLanes};
use crate::simd::neon::intrinsics::{
    float32x4_t, int16x8_t, vaddq_f32, vaddq_s32, vbslq_f32, vcltq_f32, vcvt_f32_f16,
    vcvtq_f32_s32, vcvtq_s32_f32, vdivq_f32, vdupq_n_f32, vdupq_n_s32, vdupq_n_u32, vfmaq_f32,
    vget_high_s8, vget_high_s16, vget_low_s8, vget_low_s16, vld1_u16, vld1q_f32, vld1q_s8,
    vld1q_u32, vmaxnmq_f32, vmaxnmvq_f32, vmovl_s8, vmovl_s16, vmovl_u16, vmulq_f32,
    vreinterpret_f16_u16, vreinterpretq_f32_s32, vreinterpretq_f32_u32, vrndnq_f32, vshlq_n_s32,
    vshlq_n_u32, vst1q_f32, vsubq_f32, vtstq_u32,
};
use half::{bf16, f16};
use std::array::from_fn;

/// SAFETY (of every block here): every AArch64 has NEON; loads and stores are unaligned and go
/// through references to whole arrays of 16.
#[derive(Clone, Copy)]
pub(super) struct Neon;

type V = [float32x4_t; 4];

/// Runs `work` with NEON.
pub(super) fn run(work: impl OnLanes) {
    work.run(Neon);
}

#[inline(always)]
fn each(f: impl Fn(usize) -> float32x4_t) -> V {
    [f(0), f(1), f(2), f(3)]
}

impl Lanes for Neon {
    type V = V;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        unsafe { [vdupq_n_f32(x); 4] }
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> V {
        let p = from.as_ptr();
        each(|i| unsafe { vld1q_f32(p.add(4 * i)) })
    }
    #[inline(always)]
    fn load_f16(self, from: &[f16; LANES]) -> V {
        let p = from.as_ptr().cast::<u16>();
        each(|i| unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p.add(4 * i)))) })
    }
    #[inline(always)]
    fn load_bf16(self, from: &[bf16; LANES]) -> V {
        let p = from.as_ptr().cast::<u16>();
        each(|i| unsafe {
            let bits = vmovl_u16(vld1_u16(p.add(4 * i)));
            vreinterpretq_f32_u32(vshlq_n_u32::<16>(bits))
        })
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> V {
        let low = |x: int16x8_t| unsafe { vcvtq_f32_s32(vmovl_s16(vget_low_s16(x))) };
        let high = |x: int16x8_t| unsafe { vcvtq_f32_s32(vmovl_s16(vget_high_s16(x))) };
        unsafe {
            let bytes = vld1q_s8(from.as_ptr());
            let (a, b) = (vmovl_s8(vget_low_s8(bytes)), vmovl_s8(vget_high_s8(bytes)));
            [low(a), high(a), low(b), high(b)]
        }
    }
    #[inline(always)]
    fn store(self, v: V, to: &mut [f32; LANES]) {
        let p = to.as_mut_ptr();
        for (i, v) in v.into_iter().enumerate() {
            unsafe { vst1q_f32(p.add(4 * i), v) };
        }
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        each(|i| unsafe { vaddq_f32(a[i], b[i]) })
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        each(|i| unsafe { vsubq_f32(a[i], b[i]) })
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        each(|i| unsafe { vmulq_f32(a[i], b[i]) })
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        each(|i| unsafe { vdivq_f32(a[i], b[i]) })
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        // Not `fmax`, which is NaN where one is: others give `b` there.
        self.where_less(b, a, a, b)
    }
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        each(|i| unsafe { vfmaq_f32(c[i], a[i], b[i]) })
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        each(|i| unsafe { vrndnq_f32(a[i]) })
    }
    #[inline(always)]
    fn scaled(self, a: V, n: V) -> V {
        each(|i| unsafe {
            let biased = vaddq_s32(vcvtq_s32_f32(n[i]), vdupq_n_s32(127));
            vmulq_f32(a[i], vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased)))
        })
    }
    #[inline(always)]
    fn where_less(self, a: V, b: V, then: V, otherwise: V) -> V {
        each(|i| unsafe { vbslq_f32(vcltq_f32(a[i], b[i]), then[i], otherwise[i]) })
    }
    #[inline(always)]
    fn keep(self, a: V, bits: u16, fill: V) -> V {
        each(|i| unsafe {
            let own: [u32; 4] = from_fn(|lane| 1 << (4 * i + lane));
            let kept = vtstq_u32(vdupq_n_u32(u32::from(bits)), vld1q_u32(own.as_ptr()));
            vbslq_f32(kept, a[i], fill[i])
        })
    }
    #[inline(always)]
    fn largest(self, a: V) -> f32 {
        unsafe { vmaxnmvq_f32(vmaxnmq_f32(vmaxnmq_f32(a[0], a[1]), vmaxnmq_f32(a[2], a[3]))) }
    }
}

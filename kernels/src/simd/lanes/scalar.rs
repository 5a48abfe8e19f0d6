//! Sixteen lanes as an array, for any machine: what the compiler makes of it.

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]

use super::{LANES, Lanes};
use half::{bf16, f16};
use std::array::from_fn;

/// Plain arrays. Multiply-add is not fused: without the instruction it would be a slow call.
#[derive(Clone, Copy)]
pub(super) struct Scalar;

type V = [f32; LANES];

impl Lanes for Scalar {
    type V = V;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> V {
        *from
    }
    #[inline(always)]
    fn load_f16(self, from: &[f16; LANES]) -> V {
        from.map(f16::to_f32)
    }
    #[inline(always)]
    fn load_bf16(self, from: &[bf16; LANES]) -> V {
        from.map(|x| f32::from_bits(u32::from(x.to_bits()) << 16))
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> V {
        from.map(f32::from)
    }
    #[inline(always)]
    fn store(self, v: V, to: &mut [f32; LANES]) {
        *to = v;
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        // Adding 1.5 * 2^23 leaves no fraction bits. Exact below 2^22; larger stay large.
        const INTEGERS: f32 = 12_582_912.0;
        from_fn(|i| if a[i].abs() < 4_194_304.0 { (a[i] + INTEGERS) - INTEGERS } else { a[i] })
    }
    #[inline(always)]
    fn scaled(self, a: V, n: V) -> V {
        from_fn(|i| a[i] * f32::from_bits(((n[i] as i32).wrapping_add(127) as u32) << 23))
    }
    #[inline(always)]
    fn where_less(self, a: V, b: V, then: V, otherwise: V) -> V {
        from_fn(|i| if a[i] < b[i] { then[i] } else { otherwise[i] })
    }
    #[inline(always)]
    fn keep(self, a: V, bits: u16, fill: V) -> V {
        from_fn(|i| if bits >> i & 1 == 1 { a[i] } else { fill[i] })
    }
    #[inline(always)]
    fn largest(self, a: V) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m })
    }
}

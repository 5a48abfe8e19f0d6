//! The fast path: 16 partial sums per row, in plain loops that the compiler vectorizes.
//!
//! Invariant: column `c` is added to partial sum `c mod 16`, in order, and partial sums are added
//! pairwise; no multiplication is fused, so every instruction set gives the same bits.

use crate::simd::{LANES, Simd, Vectorized};

/// Some rows.
pub(crate) struct Rows<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) eps: f32,
    pub(crate) out: &'a mut [f32],
}

impl Vectorized for Rows<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        let cols = self.weight.len();
        for (out, x) in self.out.chunks_exact_mut(cols).zip(self.x.chunks_exact(cols)) {
            let scale = 1.0 / (sum_of_squares(x) / cols as f32 + self.eps).sqrt();
            for ((out, x), weight) in out.iter_mut().zip(x).zip(self.weight) {
                *out = x * scale * weight;
            }
        }
    }
}

#[inline(always)]
fn sum_of_squares(x: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += x * x;
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += x * x;
    }
    add_upper::<8>(&mut sums);
    add_upper::<4>(&mut sums);
    add_upper::<2>(&mut sums);
    add_upper::<1>(&mut sums);
    sums[0]
}

/// Adds the second `HALF` elements to the first.
#[inline(always)]
fn add_upper<const HALF: usize>(sums: &mut [f32; LANES]) {
    for i in 0..HALF {
        sums[i] += sums[i + HALF];
    }
}

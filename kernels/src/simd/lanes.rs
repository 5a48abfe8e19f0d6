//! Sixteen f32 lanes: the vectors of attention, once as a trait and once per instruction set.
//!
//! A [`Lanes`] value is the proof that its instructions may run: such values are made in this
//! module only, after the machine was asked. Lanes are always 16, however many registers that
//! takes, so a result does not depend on the width of a register (only on whether multiply-add
//! is fused).

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(any(target_arch = "aarch64", debug_assertions))]
mod neon;
mod scalar;
#[cfg(test)]
mod tests;

use crate::{Cpu, Isa};
use half::{bf16, f16};

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// Operations on 16 f32 lanes.
pub(crate) trait Lanes: Copy {
    /// 16 lanes.
    type V: Copy;
    /// Whether registers are many and wide: how large a tile of accumulators may be.
    const WIDE: bool;

    fn splat(self, x: f32) -> Self::V;
    fn load(self, from: &[f32; LANES]) -> Self::V;
    fn load_f16(self, from: &[f16; LANES]) -> Self::V;
    fn load_bf16(self, from: &[bf16; LANES]) -> Self::V;
    fn load_i8(self, from: &[i8; LANES]) -> Self::V;
    fn store(self, v: Self::V, to: &mut [f32; LANES]);
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, fused where the instruction set can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The nearest integer, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `a` times 2 to the power of `n`, an integer from -126 to 127, rounded once. Others give anything,
    /// NaN included.
    fn scaled(self, a: Self::V, n: Self::V) -> Self::V;
    /// `then` where `a < b`, `otherwise` elsewhere, also where one is NaN.
    fn where_less(self, a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V;
    /// Lanes of `a` whose bit is set, lanes of `fill` elsewhere.
    fn keep(self, a: Self::V, bits: u16, fill: Self::V) -> Self::V;
    /// The largest lane.
    fn largest(self, a: Self::V) -> f32;

    /// `e^x` for `x <= 0`, to 2 ulp; 0 below -87, exactly 1 at 0, NaN of NaN.
    ///
    /// Cephes' `expf` (Moshier): `x = n ln 2 + r` with ln 2 in two parts, a polynomial in `r`,
    /// times `2^n`.
    #[inline(always)]
    fn exp(self, x: Self::V) -> Self::V {
        let n = self.round(self.mul(x, self.splat(std::f32::consts::LOG2_E)));
        let r = self.mul_add(n, self.splat(-355.0 / 512.0), x);
        let r = self.mul_add(n, self.splat(2.121_944_4e-4), r);
        let mut p = self.splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = self.mul_add(p, r, self.splat(c));
        }
        let series = self.add(self.mul_add(p, self.mul(r, r), r), self.splat(1.0));
        let y = self.scaled(series, n);
        self.where_less(x, self.splat(-87.0), self.splat(0.0), y)
    }

    /// `tanh x`, to 1e-7 absolute: `(1 - t) / (1 + t)` with `t = e^(-2|x|)`, and the sign of x.
    #[inline(always)]
    fn tanh(self, x: Self::V) -> Self::V {
        let zero = self.splat(0.0);
        let negative = self.sub(zero, x);
        let t = self.exp(self.mul(self.splat(-2.0), self.max(x, negative)));
        let one = self.splat(1.0);
        let y = self.div(self.sub(one, t), self.add(one, t));
        self.where_less(x, zero, self.sub(zero, y), y)
    }
}

/// The sum of 16 lanes: halves added to halves.
pub(crate) fn sum(a: &[f32; LANES]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| a[i] + a[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Asks for these bytes behind `from` to be brought near, so that reading them soon does not wait for
/// memory. They may be anyone's, or none.
#[inline(always)]
pub(crate) fn prefetch_bytes(from: *const u8, bytes: std::ops::Range<usize>) {
    #[cfg(target_arch = "x86_64")]
    for byte in bytes.step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has it, and it reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(byte).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, bytes);
}

/// As [`prefetch_bytes`], for `data`.
#[inline(always)]
pub(crate) fn prefetch<T>(data: &[T]) {
    prefetch_bytes(data.as_ptr().cast(), 0..size_of_val(data));
}

/// As [`prefetch`], for as much memory as `data` has, `ahead` elements behind it.
#[inline(always)]
pub(crate) fn prefetch_behind<T>(data: &[T], ahead: usize) {
    prefetch_bytes(data.as_ptr().wrapping_add(ahead).cast(), 0..size_of_val(data));
}

/// Work written once for all instruction sets. What it calls is `#[inline(always)]`.
pub(crate) trait OnLanes {
    fn run<L: Lanes>(self, lanes: L);
}

/// Runs `work` with the vectors of `cpu`'s instruction set, on the caller's thread.
pub(crate) fn on_lanes(cpu: &Cpu, work: impl OnLanes) {
    match cpu.isa() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a Cpu exists only for an instruction set that the machine has, and `Isa` asks
        // for every feature that `avx512::run` enables.
        Isa::Avx512 | Isa::Avx512Vnni => unsafe { avx512::run(work) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { avx2::run(work) },
        #[cfg(any(target_arch = "aarch64", debug_assertions))]
        Isa::Neon => neon::run(work),
        _ => work.run(scalar::Scalar),
    }
}

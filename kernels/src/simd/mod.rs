//! Vectors: the operations products need, once as a trait and once per instruction set.
//!
//! An algorithm is written once, generic over [`Simd`], as a [`Vectorized`] value;
//! [`Cpu::vectorize`] compiles it for every instruction set and runs the one the `Cpu` holds.
//! A value of a [`Simd`] type is a proof that the machine has the instruction set: such values are
//! made in this file only, after [`Cpu::new`] has asked the machine.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod lanes;
// Emulated elsewhere, for tests: see `Isa::is_emulated`.
#[cfg(any(target_arch = "aarch64", debug_assertions))]
mod neon;
mod scalar;
#[cfg(test)]
mod tests;

pub(crate) use scalar::Scalar;

use crate::{Cpu, Isa};

/// Outputs computed side by side; the row count of a weight panel.
pub(crate) const LANES: usize = 16;

/// The operations of an instruction set on [`LANES`] lanes, taken in `PARTS` register-sized parts.
///
/// `Codes` are 4 unsigned bytes per lane, `Dot4` and `Dot8` sums of products of such bytes and
/// signed ones per lane. Sums are exact for up to 8 products of 4-bit (`Dot4`) or 8-bit (`Dot8`)
/// codes with bytes from -127 to 127.
pub(crate) trait Simd: Copy {
    /// Registers that make [`LANES`] lanes.
    const PARTS: usize;
    /// Rows of activations that a product of one panel of weights has registers for.
    const ROWS: usize;
    /// Panels that a product of 6 rows has registers for.
    const PANELS: usize;
    /// A part of f32 lanes.
    type F32: Copy;
    /// A part of 4 bytes per lane.
    type Codes: Copy;
    /// Sums of products of 4-bit codes.
    type Dot4: Copy;
    /// Sums of products of 8-bit codes.
    type Dot8: Copy;

    /// Does the work in a function of its own, for these instructions: what is inlined into one
    /// function must be compiled as one.
    fn call(self, work: impl Vectorized);

    /// The same value in all lanes.
    fn splat(self, value: f32) -> Self::F32;
    /// Part `part` of 16 floats.
    fn load(self, from: &[f32; LANES], part: usize) -> Self::F32;
    /// Part `part` of 16 IEEE half precision floats.
    fn load_f16(self, from: &[u16; LANES], part: usize) -> Self::F32;
    /// Part `part` of 16 bfloat16 numbers.
    fn load_bf16(self, from: &[u16; LANES], part: usize) -> Self::F32;
    /// Part `part` of 16 unsigned bytes, as floats.
    fn load_u8(self, from: &[u8; LANES], part: usize) -> Self::F32;
    /// Part `part` of 16 signed bytes, as floats.
    fn load_i8(self, from: &[u8; LANES], part: usize) -> Self::F32;
    /// Writes part `part` of 16 floats.
    fn store(self, value: Self::F32, to: &mut [f32; LANES], part: usize);
    /// `a · b`.
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a · b + c`, fused where the instruction set fuses.
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;

    /// Part `part` of 4 bytes per lane.
    fn codes(self, from: &[u8; 4 * LANES], part: usize) -> Self::Codes;
    /// Writes them to part `part` of 4 bytes per lane.
    fn store_codes(self, codes: Self::Codes, to: &mut [u8; 4 * LANES], part: usize);
    /// The low 4 bits of every byte.
    fn low(self, codes: Self::Codes) -> Self::Codes;
    /// The high 4 bits of every byte.
    fn high(self, codes: Self::Codes) -> Self::Codes;
    /// `codes` with those bits of `from` that `mask` lets through after a shift to the left by `left`
    /// (to the right where negative), at most 4, in every byte. Bits that leave a byte for another
    /// must be masked.
    fn or_bits(self, codes: Self::Codes, from: Self::Codes, left: i32, mask: u8) -> Self::Codes;

    /// `start` and no products.
    fn dot4_from(self, start: i32) -> Self::Dot4;
    /// Adds, in each lane, the products of its 4 codes (at most 15) with the 4 bytes `x`.
    fn dot4(self, sum: Self::Dot4, codes: Self::Codes, x: [i8; 4]) -> Self::Dot4;
    /// The sums as floats, times `scale`, which has 21 bits at most. `start` is what they started
    /// from: sums too narrow for it get it here.
    fn dot4_scaled(self, sum: Self::Dot4, start: i32, scale: Self::F32) -> Self::F32;
    /// `start` and no products.
    fn dot8_from(self, start: i32) -> Self::Dot8;
    /// Adds, in each lane, the products of its 4 codes with the 4 bytes `x`.
    fn dot8(self, sum: Self::Dot8, codes: Self::Codes, x: [i8; 4]) -> Self::Dot8;
    /// The sums as floats, times `scale`, as [`Simd::dot4_scaled`].
    fn dot8_scaled(self, sum: Self::Dot8, start: i32, scale: Self::F32) -> Self::F32;
}

/// Work written once for all instruction sets. Implementations and what they call are marked
/// `#[inline(always)]`, so that they are compiled with the features of the caller.
pub(crate) trait Vectorized {
    /// Does the work with the instructions of `simd`.
    fn run<S: Simd>(self, simd: S);
}

impl Cpu {
    /// Runs `work` with the instruction set of this `Cpu`, on the caller's thread.
    pub(crate) fn vectorize(&self, work: impl Vectorized) {
        match self.isa() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Cpu::new` asserted that the machine has the features of its Isa.
            Isa::Avx2 => unsafe { avx2::run(work) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512 => unsafe { avx512::run(work) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512Vnni => unsafe { avx512::run_vnni(work) },
            #[cfg(any(target_arch = "aarch64", debug_assertions))]
            Isa::Neon => neon::run(work),
            _ => scalar::run(work),
        }
    }
}

/// The sum of 16 bytes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn sum_bytes(bytes: &[i8; 16]) -> i32 {
    use std::arch::x86_64::{
        _mm_cvtsi128_si32, _mm_extract_epi16, _mm_loadu_si128, _mm_sad_epu8, _mm_set1_epi8,
        _mm_setzero_si128, _mm_xor_si128,
    };
    // Left to the compiler, the bytes are added one by one. Instead: raised by 128 they are
    // unsigned, which SSE2 can add.
    // SAFETY: SSE2 is part of x86-64, and there are 16 bytes.
    unsafe {
        let raised = _mm_xor_si128(_mm_loadu_si128(bytes.as_ptr().cast()), _mm_set1_epi8(-128));
        let sums = _mm_sad_epu8(raised, _mm_setzero_si128());
        _mm_cvtsi128_si32(sums) + _mm_extract_epi16::<4>(sums) - 16 * 128
    }
}

/// The sum of 16 bytes.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn sum_bytes(bytes: &[i8; 16]) -> i32 {
    bytes.iter().map(|&byte| i32::from(byte)).sum()
}

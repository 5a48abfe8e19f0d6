//! What the vector units of this machine can do at most: the limits that benches divide by.

use crate::Cpu;
use crate::simd::{LANES, Simd, Vectorized};
use std::hint::black_box;

/// Additions and multiplications of 8-bit integers that one call of [`peak_int8`] does.
pub fn peak_int8_ops(cpu: &Cpu, rounds: usize) -> usize {
    cpu.threads() * rounds * CHAINS * 4 * LANES * 2
}

/// Multiplies and adds 8-bit integers in registers, with nothing to load, on every thread.
pub fn peak_int8(cpu: &Cpu, rounds: usize) {
    cpu.for_each(cpu.threads(), |_| cpu.vectorize(Int8 { rounds }));
}

/// Additions and multiplications of f32 numbers that one call of [`peak_f32`] does.
pub fn peak_f32_ops(cpu: &Cpu, rounds: usize) -> usize {
    cpu.threads() * rounds * CHAINS * LANES * 2
}

/// Multiplies and adds f32 numbers in registers, with nothing to load, on every thread.
pub fn peak_f32(cpu: &Cpu, rounds: usize) {
    cpu.for_each(cpu.threads(), |_| cpu.vectorize(F32 { rounds }));
}

struct Int8 {
    rounds: usize,
}

impl Vectorized for Int8 {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let codes: [[u8; 4 * LANES]; CHAINS] = black_box([[7; 4 * LANES]; CHAINS]);
        let x: [i8; 4] = black_box([1, -2, 3, -4]);
        for part in 0..S::PARTS {
            let mut sums = [simd.dot8_from(0); CHAINS];
            for _ in 0..self.rounds {
                for (sum, codes) in sums.iter_mut().zip(&codes) {
                    *sum = simd.dot8(*sum, simd.codes(codes, part), x);
                }
            }
            let mut out = [0.0; LANES];
            for sum in sums {
                simd.store(simd.dot8_scaled(sum, 0, simd.splat(1.0)), &mut out, part);
                black_box(&out);
            }
        }
    }
}

struct F32 {
    rounds: usize,
}

impl Vectorized for F32 {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (a, b) = (black_box([1.0; LANES]), black_box([1e-3; LANES]));
        for part in 0..S::PARTS {
            let (a, b) = (simd.load(&a, part), simd.load(&b, part));
            let mut sums = [a; CHAINS];
            for _ in 0..self.rounds {
                for sum in &mut sums {
                    *sum = simd.mul_add(*sum, a, b);
                }
            }
            let mut out = [0.0; LANES];
            for sum in sums {
                simd.store(sum, &mut out, part);
                black_box(&out);
            }
        }
    }
}

/// Independent sums: more than an instruction's latency times the units that take it.
const CHAINS: usize = 12;

//! Every operation of every instruction set against plain arithmetic: bit for bit, but for
//! multiply-add, which plain Rust does not fuse.

use super::{LANES, Simd, Vectorized};
use crate::case::Rng;
use crate::{Cpu, Isa};
use half::{bf16, f16};
use std::array::from_fn;

#[test]
fn every_operation_of_every_isa_is_the_plain_one() {
    for isa in Isa::tested() {
        let cpu = Cpu::new(1, isa);
        cpu.vectorize(Floats(isa));
        cpu.vectorize(Codes(isa));
        cpu.vectorize(Dots(isa));
    }
}

/// What `value(part)` is in all parts.
#[inline(always)]
fn read<S: Simd>(simd: S, value: impl Fn(usize) -> S::F32) -> [f32; LANES] {
    let mut out = [f32::NAN; LANES];
    for part in 0..S::PARTS {
        simd.store(value(part), &mut out, part);
    }
    out
}

/// The bytes of `codes(part)` in all parts.
#[inline(always)]
fn bytes<S: Simd>(simd: S, codes: impl Fn(usize) -> S::Codes) -> [u8; 4 * LANES] {
    let mut out = [0; 4 * LANES];
    for part in 0..S::PARTS {
        simd.store_codes(codes(part), &mut out, part);
    }
    out
}

struct Floats(Isa);

impl Vectorized for Floats {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let isa = self.0;
        let mut rng = Rng::new(1);
        let [a, b, c]: [[f32; LANES]; 3] = from_fn(|_| from_fn(|_| 1.5 + rng.signed()));
        assert_eq!(read(simd, |_| simd.splat(0.3)), [0.3; LANES], "{isa}");
        assert_eq!(read(simd, |part| simd.load(&a, part)), a, "{isa}");
        let product = read(simd, |part| simd.mul(simd.load(&a, part), simd.load(&b, part)));
        assert_eq!(product, from_fn(|i| a[i] * b[i]), "{isa}");

        let sum = read(simd, |part| {
            simd.mul_add(simd.load(&a, part), simd.load(&b, part), simd.load(&c, part))
        });
        let fused: [f32; LANES] = from_fn(|i| a[i].mul_add(b[i], c[i]));
        if isa == Isa::Scalar {
            let ulps = sum.iter().zip(&fused).map(|(x, y)| x.to_bits().abs_diff(y.to_bits()));
            assert!(ulps.max() <= Some(1), "{isa}: {sum:?}, not {fused:?}");
        } else {
            assert_eq!(sum, fused, "{isa}");
        }

        let halves = a.map(|a| f16::from_f32(a - 1.5));
        let read_halves = read(simd, |part| simd.load_f16(&halves.map(f16::to_bits), part));
        assert_eq!(read_halves, halves.map(f16::to_f32), "{isa}");
        let halves = a.map(|a| bf16::from_f32(a - 1.5));
        let read_halves = read(simd, |part| simd.load_bf16(&halves.map(bf16::to_bits), part));
        assert_eq!(read_halves, halves.map(bf16::to_f32), "{isa}");

        let bytes: [u8; LANES] = from_fn(|i| 17 * i as u8);
        let unsigned = read(simd, |part| simd.load_u8(&bytes, part));
        assert_eq!(unsigned, bytes.map(f32::from), "{isa}");
        let signed = read(simd, |part| simd.load_i8(&bytes, part));
        assert_eq!(signed, bytes.map(|byte| f32::from(byte.cast_signed())), "{isa}");
    }
}

struct Codes(Isa);

impl Vectorized for Codes {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let isa = self.0;
        let mut rng = Rng::new(2);
        let [a, b]: [[u8; 4 * LANES]; 2] = from_fn(|_| from_fn(|_| rng.bits() as u8));
        let (nibbles, from) = (a.map(|a| a & 15), b);
        assert_eq!(bytes(simd, |part| simd.codes(&a, part)), a, "{isa}");
        assert_eq!(bytes(simd, |part| simd.low(simd.codes(&a, part))), nibbles, "{isa}");
        assert_eq!(bytes(simd, |part| simd.high(simd.codes(&a, part))), a.map(|a| a >> 4), "{isa}");
        for left in -4..=4 {
            let shift = |b: u8| if left < 0 { b >> -left } else { b << left };
            let mask = shift(0xff) & 0x5a;
            let got = bytes(simd, |part| {
                simd.or_bits(simd.codes(&nibbles, part), simd.codes(&from, part), left, mask)
            });
            let want: [u8; 4 * LANES] = from_fn(|i| nibbles[i] | (shift(from[i]) & mask));
            assert_eq!(got, want, "{isa} {left}");
        }
    }
}

struct Dots(Isa);

impl Vectorized for Dots {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (seed, sign) in [(3, None), (4, Some(1)), (5, Some(-1))] {
            check_dots(simd, self.0, &mut Rng::new(seed), sign);
        }
    }
}

/// As many products as sums must hold, random ones or the largest of one sign.
#[inline(always)]
fn check_dots<S: Simd>(simd: S, isa: Isa, rng: &mut Rng, sign: Option<i8>) {
    let codes: [[u8; 4 * LANES]; 8] =
        from_fn(|_| from_fn(|_| if sign.is_some() { 255 } else { rng.bits() as u8 }));
    let nibbles = codes.map(|codes| codes.map(|code| code >> 4));
    let x: [[i8; 4]; 8] = from_fn(|_| {
        from_fn(|_| sign.map_or_else(|| (rng.below(255) as i32 - 127) as i8, |sign| 127 * sign))
    });
    let scale: [f32; LANES] = from_fn(|i| (i + 1) as f32 / 1024.0);
    for start in [0, 128 * 32 * 127, -128 * 32 * 127] {
        let dot4 = read(simd, |part| {
            let mut sum = simd.dot4_from(start);
            for (nibbles, &x) in nibbles.iter().zip(&x) {
                sum = simd.dot4(sum, simd.codes(nibbles, part), x);
            }
            simd.dot4_scaled(sum, start, simd.load(&scale, part))
        });
        assert_eq!(dot4, plain(start, &nibbles, &x, &scale), "{isa}, from {start}");
        let dot8 = read(simd, |part| {
            let mut sum = simd.dot8_from(start);
            for (codes, &x) in codes.iter().zip(&x) {
                sum = simd.dot8(sum, simd.codes(codes, part), x);
            }
            simd.dot8_scaled(sum, start, simd.load(&scale, part))
        });
        assert_eq!(dot8, plain(start, &codes, &x, &scale), "{isa}, from {start}");
    }
}

/// Scaled sums of products.
fn plain(
    start: i32,
    codes: &[[u8; 4 * LANES]; 8],
    x: &[[i8; 4]; 8],
    scale: &[f32; LANES],
) -> [f32; LANES] {
    from_fn(|lane| {
        let products = codes.iter().zip(x).flat_map(|(codes, x)| {
            let of_lane = codes[4 * lane..].iter().zip(x);
            of_lane.map(|(&code, &x)| i32::from(code) * i32::from(x))
        });
        (start + products.sum::<i32>()) as f32 * scale[lane]
    })
}

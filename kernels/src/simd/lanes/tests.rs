//! Every vector operation of every instruction set against plain arithmetic.

use super::{LANES, Lanes, OnLanes, on_lanes};
use crate::{Cpu, Isa};
use half::{bf16, f16};

struct Check(Isa);

impl OnLanes for Check {
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let read = |v| {
            let mut out = [0.0; LANES];
            l.store(v, &mut out);
            out
        };
        let a: [f32; LANES] = std::array::from_fn(|i| (i as f32 - 7.3) * 1.7);
        let b: [f32; LANES] = std::array::from_fn(|i| ((i * 7) % 16) as f32 - 3.0);
        let (va, vb) = (l.load(&a), l.load(&b));
        let each =
            |f: fn(f32, f32) -> f32| -> [f32; LANES] { std::array::from_fn(|i| f(a[i], b[i])) };
        let isa = self.0;
        assert_eq!(read(l.splat(3.5)), [3.5; LANES], "{isa}");
        assert_eq!(read(l.add(va, vb)), each(|a, b| a + b), "{isa}");
        assert_eq!(read(l.sub(va, vb)), each(|a, b| a - b), "{isa}");
        assert_eq!(read(l.mul(va, vb)), each(|a, b| a * b), "{isa}");
        assert_eq!(
            read(l.div(va, vb)).map(f32::to_bits),
            each(|a, b| a / b).map(f32::to_bits),
            "{isa}"
        );
        assert_eq!(read(l.max(va, vb)), each(f32::max), "{isa}");
        assert_eq!(read(l.round(va)), each(|a, _| a.round_ties_even()), "{isa}");
        assert_eq!(read(l.scaled(va, vb)), each(|a, b| a * b.exp2()), "{isa}");
        assert_eq!(
            read(l.where_less(va, vb, va, vb)),
            each(|a, b| if a < b { a } else { b }),
            "{isa}"
        );
        let fused: [f32; LANES] = std::array::from_fn(|i| a[i].mul_add(b[i], 0.5));
        let close = read(l.mul_add(va, vb, l.splat(0.5)));
        assert!(close.iter().zip(&fused).all(|(x, y)| (x - y).abs() <= 1e-5), "{isa}");
        for bits in [0, 1, 0x8000, 0xffff, 0x5a3c] {
            let want: [f32; LANES] =
                std::array::from_fn(|i| if bits >> i & 1 == 1 { a[i] } else { b[i] });
            assert_eq!(read(l.keep(va, bits, vb)), want, "{isa} {bits:x}");
        }
        let whole: [f32; LANES] = std::array::from_fn(|i| ((i * 5) % 16) as f32 - 4.0);
        assert_eq!(super::sum(&whole), whole.iter().sum::<f32>());
        assert_eq!(l.largest(va), a[15], "{isa}");
        let halves = a.map(f16::from_f32);
        assert_eq!(read(l.load_f16(&halves)), halves.map(f16::to_f32), "{isa}");
        let halves = a.map(bf16::from_f32);
        assert_eq!(read(l.load_bf16(&halves)), halves.map(bf16::to_f32), "{isa}");
        let bytes: [i8; LANES] = std::array::from_fn(|i| (i as i8).wrapping_mul(37));
        assert_eq!(read(l.load_i8(&bytes)), bytes.map(f32::from), "{isa}");
        check_exp(l, isa);
    }
}

#[inline(always)]
fn check_exp<L: Lanes>(l: L, isa: Isa) {
    for i in 0..20_000 {
        let x = -(i as f32) * 0.004_37;
        let (mut exp, mut tanh) = ([0.0; LANES], [0.0; LANES]);
        l.store(l.exp(l.splat(x)), &mut exp);
        l.store(l.tanh(l.splat(x * 0.1)), &mut tanh);
        let want = f64::from(x).exp();
        let got = f64::from(exp[3]);
        let zero = x < -87.0 && got == 0.0;
        assert!(zero || (got - want).abs() <= 3e-7 * want, "{isa}: exp({x}) = {got}, not {want}");
        let want = f64::from(x * 0.1).tanh();
        assert!((f64::from(tanh[9]) - want).abs() <= 3e-7, "{isa}: tanh({})", x * 0.1);
    }
    let special = [0.0, -0.0, f32::NEG_INFINITY, -1e30, f32::NAN, -87.5, -86.9, -1.0];
    let from: [f32; LANES] = std::array::from_fn(|i| special[i % 8]);
    let mut to = [0.0; LANES];
    l.store(l.exp(l.load(&from)), &mut to);
    assert_eq!(to[..4], [1.0, 1.0, 0.0, 0.0], "{isa}");
    assert!(to[4].is_nan() && to[5] == 0.0 && to[6] > 0.0, "{isa}: {to:?}");
}

#[test]
fn every_operation_of_every_isa_is_the_plain_one() {
    for isa in Isa::tested() {
        on_lanes(&Cpu::new(1, isa), Check(isa));
    }
}

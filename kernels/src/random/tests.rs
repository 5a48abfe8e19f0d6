//! Numbers are those of the seed, and near a normal distribution.

use super::{random, reference};
use crate::{Cpu, Isa};
use half::bf16;

fn numbers(seed: u64, deviation: f32, count: usize) -> Vec<bf16> {
    let mut out = vec![bf16::NAN; count];
    random(&Cpu::new(1, Isa::Scalar), seed, deviation, &mut out);
    out
}

/// Computed apart from this code, by a generator that gives Random123's known answers.
#[test]
fn known_seeds_give_known_bits() {
    let known = [
        (1, [0x3c15, 0xbc19, 0x3c6d, 0xbc59, 0xbd1d, 0x3ca2, 0xbccf], 0xbb89),
        (0x1234_5678_9abc_def0, [0xbd02, 0xbc15, 0x3d10, 0x3bb6, 0x3ab1, 0x3ca6, 0xbc90], 0x3cc5),
    ];
    for (seed, bits, far) in known {
        let got = numbers(seed, 0.02, 4096);
        let at = [0, 1, 2, 3, 4, 7, 4095].map(|index| got[index].to_bits());
        assert_eq!(at, bits, "seed {seed:#x}");
        // The last number of the largest matrix there is.
        assert_eq!(reference::random(seed, 0.02, 128_256 * 4096 - 1).to_bits(), far);
    }
}

#[test]
fn fewer_numbers_are_the_first_of_more() {
    let all = numbers(9, 1.0, 1003);
    for count in [0, 1, 3, 4, 1000] {
        assert_eq!(numbers(9, 1.0, count), all[..count]);
    }
}

#[test]
fn mean_deviation_and_tails_are_near_those_of_a_normal_distribution() {
    let count = 1 << 20;
    let x: Vec<f64> = numbers(3, 0.02, count).iter().map(|x| x.to_f64() / 0.02).collect();
    let mean = |term: &dyn Fn(f64) -> f64| x.iter().map(|&x| term(x)).sum::<f64>() / count as f64;
    // Five deviations of what so many numbers give.
    assert!(mean(&|x| x).abs() < 0.005, "mean {}", mean(&|x| x));
    assert!((mean(&|x| x * x) - 1.0).abs() < 0.007, "variance {}", mean(&|x| x * x));
    // Of a sum of four: 3 - 6 / 5 / 4.
    assert!((mean(&|x| x.powi(4)) - 2.7).abs() < 0.05, "fourth moment {}", mean(&|x| x.powi(4)));
    assert!(x.iter().all(|x| x.abs() < 3.47), "as far as sums go");
}

#[test]
fn neighbours_and_seeds_tell_nothing_of_each_other() {
    let count = 1 << 18;
    let (one, two) = (numbers(1, 1.0, count), numbers(2, 1.0, count));
    let product = |a: &[bf16], b: &[bf16]| {
        let products = a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64());
        products.sum::<f64>() / count as f64
    };
    let others = [(&two[..], "seeds"), (&one[1..], "neighbours"), (&one[4..], "blocks")];
    for (other, what) in others {
        assert!(product(&one, other).abs() < 0.01, "{what}: {}", product(&one, other));
    }
}

//! The merge as a monoid, over states of random sets of rows.

use super::reference::state;
use super::*;
use crate::simd::lanes::on_lanes;
use crate::{Cpu, Isa, uniform};

/// Rows with scores spread over `±spread`, about 1 in 8 far below.
fn rows(seed: u64, count: usize, spread: f32) -> Vec<(f32, [f32; 4])> {
    let number = |i: u64| uniform(seed, i) as f32 * 2.0 - 1.0;
    let row = |i: u64| {
        let far = if i % 8 == 3 { 200.0 } else { 0.0 };
        (number(i * 5) * spread - far, [1, 2, 3, 4].map(|d| number(i * 5 + d)))
    };
    (0..count as u64).map(row).collect()
}

/// A state's attention is off by some ulp of sums whose terms are at most 1.
fn assert_close(a: &PartialState, b: &PartialState) {
    assert_eq!(a.max, b.max);
    assert!((a.sum - b.sum).abs() <= 2e-6 * a.sum, "{a:?} {b:?}");
    for (x, y) in a.finish().iter().zip(b.finish()) {
        assert!((x - y).abs() <= 3e-6, "{a:?} {b:?}");
    }
}

const SPREADS: [f32; 4] = [0.0, 1.0, 30.0, 150.0];

#[test]
fn identity_changes_no_bit() {
    for seed in 0..50 {
        let a = state(&rows(seed, 1 + seed as usize, SPREADS[seed as usize % 4]));
        assert_eq!(merge(&a, &PartialState::identity(4)), a);
        assert_eq!(merge(&PartialState::identity(4), &a), a);
    }
    let none = PartialState::identity(4);
    assert_eq!(merge(&none, &none), none);
    assert_eq!(none.finish(), [0.0; 4]);
}

#[test]
fn merge_of_splits_is_the_whole_in_every_order_and_grouping() {
    for seed in 0..200 {
        let all = rows(seed, 12 + seed as usize % 30, SPREADS[seed as usize % 4]);
        let mut cuts = [1, 2].map(|i| (uniform(seed, 1 << 40 | i) * all.len() as f64) as usize);
        cuts.sort_unstable();
        let [a, b, c] = [&all[..cuts[0]], &all[cuts[0]..cuts[1]], &all[cuts[1]..]].map(state);
        let whole = state(&all);
        assert_close(&merge(&merge(&a, &b), &c), &whole);
        assert_close(&merge(&a, &merge(&b, &c)), &whole);
        assert_close(&merge(&merge(&c, &a), &b), &whole);
        assert_close(&merge(&b, &merge(&c, &a)), &whole);
    }
}

#[test]
fn a_state_far_below_adds_nothing() {
    let high = state(&[(90.0, [1.0, -2.0, 3.0, 0.5])]);
    let low = state(&[(-90.0, [1e30, 1e30, -1e30, 1.0])]);
    assert_eq!(merge(&low, &high).finish(), high.finish());
    assert_eq!(merge(&high, &low).finish(), high.finish());
}

/// 3 states of 32 dims, one after another: the values of 4-dim states again and again.
fn side_by_side(states: &[PartialState]) -> (Vec<f32>, Vec<f32>, Vec<[f32; LANES]>) {
    let vector = |s: &PartialState, at: usize| std::array::from_fn(|i| s.weighted[(i + at) % 4]);
    let vectors = states.iter().flat_map(|s| [vector(s, 0), vector(s, 1)]);
    let (max, sum) = (states.iter().map(|s| s.max), states.iter().map(|s| s.sum));
    (max.collect(), sum.collect(), vectors.collect())
}

#[test]
fn states_side_by_side_merge_to_the_same_bits() {
    for seed in 0..60 {
        let spread = SPREADS[seed as usize % 4];
        // One in three is over no rows, on one side or on both.
        let some = |seed: u64| {
            (0..3).map(move |i| state(&rows(seed + i, (seed + i) as usize % 3 * 5, spread)))
        };
        let (a, b): (Vec<_>, Vec<_>) = (some(seed).collect(), some(seed + 100).collect());
        let merged: Vec<_> = a.iter().zip(&b).map(|(a, b)| merge(a, b)).collect();
        let (want, other) = (side_by_side(&merged), side_by_side(&b));
        for isa in Isa::tested() {
            let (mut max, mut sum, mut weighted) = side_by_side(&a);
            let mut into = States { max: &mut max, sum: &mut sum, weighted: &mut weighted };
            let (max_b, sum_b, weighted_b) = (&other.0[..], &other.1[..], &other.2[..]);
            let work = MergeEach { into: &mut into, max: max_b, sum: sum_b, weighted: weighted_b };
            on_lanes(&Cpu::new(1, isa), work);
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&max), bits(&want.0), "{isa} {seed}");
            assert_eq!(bits(&sum), bits(&want.1), "{isa} {seed}");
            assert_eq!(bits(weighted.as_flattened()), bits(want.2.as_flattened()), "{isa} {seed}");
        }
    }
}

//! The merge as a monoid, over states of random sets of rows.

use super::reference::state;
use super::*;
use crate::uniform;

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

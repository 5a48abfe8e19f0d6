//! Intervals by the bootstrap (Efron, 1979): questions are drawn again with replacement, and a
//! 95 % interval holds the middle of what the mean then is.
//!
//! Items of one question are drawn together: they are not independent. A difference between arms
//! is paired: one value an item, so that what makes an item hard for both cancels.

use crate::chance::Chance;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Draws; the interval's ends then move by less than a tenth of its width.
const RESAMPLES: usize = 2_000;

/// A mean and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Estimate {
    pub(crate) mean: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Values.
    pub(crate) n: usize,
}

impl Estimate {
    /// Of values, each with the question it belongs to; none without values.
    pub(crate) fn of(values: &[(usize, f64)], seed: u64) -> Option<Self> {
        let mut sums = BTreeMap::<usize, (f64, usize)>::new();
        for &(question, value) in values {
            let sum = sums.entry(question).or_default();
            *sum = (sum.0 + value, sum.1 + 1);
        }
        let sums: Vec<_> = sums.into_values().collect();
        let mean = mean_of(&sums)?;
        let mut chance = Chance::new(seed, "bootstrap");
        let mut drawn = Vec::with_capacity(sums.len());
        let mut means: Vec<f64> = (0..RESAMPLES)
            .filter_map(|_| {
                drawn.clear();
                drawn.extend((0..sums.len()).map(|_| *chance.pick(&sums)));
                mean_of(&drawn)
            })
            .collect();
        means.sort_by(f64::total_cmp);
        let (low, high) = (percentile(&means, 0.025)?, percentile(&means, 0.975)?);
        Some(Self { mean, low, high, n: values.len() })
    }
}

fn mean_of(sums: &[(f64, usize)]) -> Option<f64> {
    let count: usize = sums.iter().map(|sum| sum.1).sum();
    let total: f64 = sums.iter().map(|sum| sum.0).sum();
    (count > 0).then(|| total / count as f64)
}

/// The value that a `share` of the sorted values lies below, between neighbours in proportion.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share * last as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(low + (high - low) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::{Estimate, percentile};

    #[test]
    fn percentiles_by_hand() {
        let sorted = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(percentile(&sorted, 0.5), Some(3.0));
        assert_eq!(percentile(&sorted, 0.0), Some(1.0));
        assert_eq!(percentile(&sorted, 0.95), Some(4.8));
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&[7.0], 0.95), Some(7.0));
    }

    /// Of 100 even coin flips the mean's standard error is 0.05: the interval is 0.5 ± 0.098.
    #[test]
    fn the_interval_of_a_known_case() {
        let flips: Vec<_> = (0..100).map(|i| (i, (i % 2) as f64)).collect();
        let estimate = Estimate::of(&flips, 1).unwrap();
        assert_eq!((estimate.mean, estimate.n), (0.5, 100));
        assert!((estimate.low - 0.402).abs() < 0.015, "{estimate:?}");
        assert!((estimate.high - 0.598).abs() < 0.015, "{estimate:?}");
        assert_eq!(Estimate::of(&flips, 1), Some(estimate), "the same seed, the same interval");
        let uneven: Vec<_> = (0..9).map(|i| (i, f64::from(i as u8).sqrt())).collect();
        assert_ne!(Estimate::of(&uneven, 1), Estimate::of(&uneven, 2));
    }

    /// A hundred copies of four questions tell no more than the four.
    #[test]
    fn items_of_one_question_are_one_draw() {
        let alone: Vec<_> = (0..4).map(|i| (i, i as f64)).collect();
        let copied: Vec<_> = (0..400).map(|i| (i % 4, (i % 4) as f64)).collect();
        let (alone, copied) = (Estimate::of(&alone, 1).unwrap(), Estimate::of(&copied, 1).unwrap());
        assert_eq!((alone.low, alone.high), (copied.low, copied.high));
        assert_eq!(copied.n, 400);
    }

    #[test]
    fn what_is_always_the_same_has_no_spread_and_nothing_has_no_mean() {
        let estimate = Estimate::of(&[(0, 0.25), (1, 0.25)], 3).unwrap();
        assert_eq!((estimate.low, estimate.high), (0.25, 0.25));
        assert_eq!(Estimate::of(&[], 3), None);
    }
}

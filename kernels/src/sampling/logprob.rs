//! Log-probabilities of logits, and the tokens with the largest.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// `ln(sum(exp(logits)))`, summed in f64 around the maximum. The log-probability of token `t` is
/// `logits[t] - log_sum_exp(logits)`. Of no logits: negative infinity; with a NaN: NaN.
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !max.is_finite() {
        return if logits.iter().any(|x| x.is_nan()) { f32::NAN } else { max };
    }
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    (f64::from(max) + sum.ln()) as f32
}

/// The `n` tokens with the largest logits, largest first, the lower id first among equals.
pub fn top(logits: &[f32], n: usize) -> Vec<(u32, f32)> {
    let n = n.min(logits.len());
    let mut heap = BinaryHeap::with_capacity(n + 1); // the weakest kept on top
    for (token, &logit) in logits.iter().enumerate() {
        let candidate = Reverse(Candidate { token: token as u32, logit });
        if heap.len() < n {
            heap.push(candidate);
        } else if heap.peek().is_some_and(|weakest| candidate < *weakest) {
            heap.pop();
            heap.push(candidate);
        }
    }
    let ordered = heap.into_sorted_vec();
    ordered.into_iter().map(|Reverse(c)| (c.token, c.logit)).collect()
}

/// A token and its logit; greater is likelier, then lower of id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) token: u32,
    pub(super) logit: f32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        // -0 and 0 are the same logit; NaN is below everything, so that the order is total.
        let of = |logit: f32| if logit.is_nan() { f32::NEG_INFINITY } else { logit + 0.0 };
        of(self.logit).total_cmp(&of(other.logit)).then(other.token.cmp(&self.token))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

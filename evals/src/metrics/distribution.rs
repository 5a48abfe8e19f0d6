//! How an arm's distributions over the next token differ from those of `recompute`, as far as
//! the likeliest tokens of both tell.
//!
//! KL is taken over a partition of the vocabulary that both sides know: each token that is among
//! the likeliest of both, and the right one, is a class of its own, and all other tokens are one
//! class, with what mass is left on each side. Merging classes never raises KL, so this is a lower bound of the KL over
//! the whole vocabulary, and it gets tight with the number of alternatives.

use engine::TokenLogprob;
use std::collections::HashMap;

/// Means over the tokens of a right answer, and the values at its first token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Forced {
    pub(crate) nll: f64,
    pub(crate) kl_first: f64,
    pub(crate) kl: f64,
    pub(crate) top1_first: f64,
    pub(crate) top1: f64,
}

impl Forced {
    /// `arm`'s scores of the right answer beside those of `recompute`.
    ///
    /// # Panics
    /// When they are not of the same tokens, or of none.
    pub(crate) fn of(arm: &[TokenLogprob], recompute: &[TokenLogprob]) -> Self {
        let tokens = |scores: &[TokenLogprob]| scores.iter().map(|s| s.token).collect::<Vec<_>>();
        assert_eq!(tokens(arm), tokens(recompute), "arms are compared on the same tokens");
        assert!(!arm.is_empty(), "an answer has tokens");
        let kls: Vec<f64> =
            recompute.iter().zip(arm).map(|(p, q)| kl(&known(p), &known(q))).collect();
        let best = |score: &TokenLogprob| score.top.first().map(|top| top.0);
        let agree: Vec<f64> = arm
            .iter()
            .zip(recompute)
            .map(|(a, b)| super::text::share(best(a) == best(b)))
            .collect();
        let nlls: Vec<f64> = arm.iter().map(|score| -f64::from(score.logprob)).collect();
        Self {
            nll: mean(&nlls),
            kl_first: kls[0],
            kl: mean(&kls),
            top1_first: agree[0],
            top1: mean(&agree),
        }
    }
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Tokens of two answers before the first that differs.
pub(crate) fn shared_tokens(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Tokens whose log-probability is known: the likeliest, and the right one.
fn known(score: &TokenLogprob) -> Vec<(u32, f32)> {
    let mut known = score.top.clone();
    if known.iter().all(|&(token, _)| token != score.token) {
        known.push((score.token, score.logprob));
    }
    known
}

/// KL(p ‖ q) in nats over the classes named above.
fn kl(p: &[(u32, f32)], q: &[(u32, f32)]) -> f64 {
    let others: HashMap<u32, f32> = q.iter().copied().collect();
    let (mut sum, mut p_left, mut q_left) = (0.0, 1.0, 1.0);
    for &(token, log_p) in p {
        if let Some(&log_q) = others.get(&token) {
            let (log_p, log_q) = (f64::from(log_p), f64::from(log_q));
            sum += log_p.exp() * (log_p - log_q);
            p_left -= log_p.exp();
            q_left -= log_q.exp();
        }
    }
    // What rounding leaves of no mass must not look like mass.
    let (p_left, q_left) = (f64::max(p_left, LEAST), f64::max(q_left, LEAST));
    f64::max(sum + p_left * (p_left / q_left).ln(), 0.0)
}

/// Log-probabilities are f32, and hundreds of them are summed.
const LEAST: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::{Forced, kl, shared_tokens};
    use engine::TokenLogprob;

    fn top(of: &[(u32, f64)]) -> Vec<(u32, f32)> {
        of.iter().map(|&(token, p)| (token, p.ln() as f32)).collect()
    }

    #[test]
    fn by_hand() {
        // Both know all tokens: the sum as it stands.
        let (p, q) =
            (top(&[(1, 0.5), (2, 0.25), (3, 0.25)]), top(&[(1, 0.25), (3, 0.5), (2, 0.25)]));
        let whole = 0.5 * 2f64.ln() + 0.25 * 0.5f64.ln();
        assert!((kl(&p, &q) - whole).abs() < 1e-5, "{}", kl(&p, &q));
        assert!(kl(&p, &p).abs() < 1e-9);
        // Token 2 is not among the likeliest of q: classes {1} and the rest.
        let (p, q) = (top(&[(1, 0.5), (2, 0.3)]), top(&[(1, 0.8), (7, 0.1)]));
        let two = 0.5 * (0.5f64 / 0.8).ln() + 0.5 * (0.5f64 / 0.2).ln();
        assert!((kl(&p, &q) - two).abs() < 1e-6);
        // Nothing in common: one class with all mass on both sides, of which nothing is known.
        assert!(kl(&top(&[(1, 0.9)]), &top(&[(2, 0.9)])).abs() < 1e-12);
    }

    /// More alternatives tell more, up to the whole vocabulary.
    #[test]
    fn a_coarser_partition_is_a_lower_bound() {
        let (p, q) = (
            top(&[(1, 0.4), (2, 0.3), (3, 0.2), (4, 0.1)]),
            top(&[(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]),
        );
        let some: Vec<f64> = (1..=4).map(|n| kl(&p[..n], &q)).collect();
        assert!(some.is_sorted(), "{some:?}");
        let whole: f64 =
            [0.4 * 4f64.ln(), 0.3 * 1.5f64.ln(), 0.2 * (2f64 / 3.0).ln(), 0.1 * 0.25f64.ln()]
                .iter()
                .sum();
        assert!((some[3] - whole).abs() < 1e-5);
    }

    #[test]
    fn an_answer_is_averaged_over_its_tokens() {
        let score =
            |token, logprob, best: &[(u32, f64)]| TokenLogprob { token, logprob, top: top(best) };
        let recompute =
            [score(5, -0.1, &[(5, 0.9), (6, 0.1)]), score(6, -0.5, &[(6, 0.6), (5, 0.4)])];
        let arm = [score(5, -1.0, &[(6, 0.9), (5, 0.1)]), score(6, -2.0, &[(6, 0.6), (5, 0.4)])];
        let forced = Forced::of(&arm, &recompute);
        assert!((forced.nll - 1.5).abs() < 1e-6);
        let first = 0.9 * 9f64.ln() + 0.1 * (1f64 / 9.0).ln();
        assert!((forced.kl_first - first).abs() < 1e-5);
        assert!((forced.kl - first / 2.0).abs() < 1e-5);
        assert_eq!((forced.top1_first, forced.top1), (0.0, 0.5));
    }

    /// The right token is known on both sides, likely or not.
    #[test]
    fn the_right_token_is_a_class() {
        let score = |logprob: f64, best| TokenLogprob {
            token: 9,
            logprob: logprob.ln() as f32,
            top: top(&[(best, 0.7)]),
        };
        let (p, q) = ([score(0.2, 1)], [score(0.1, 2)]);
        let forced = Forced::of(&q, &p);
        let two = 0.2 * 2f64.ln() + 0.8 * (0.8f64 / 0.9).ln();
        assert!((forced.kl - two).abs() < 1e-6, "{forced:?}");
    }

    #[test]
    fn divergence_is_counted_in_tokens() {
        assert_eq!(shared_tokens(&[1, 2, 3], &[1, 2, 4]), 2);
        assert_eq!(shared_tokens(&[1, 2], &[1, 2, 4]), 2);
        assert_eq!(shared_tokens(&[], &[1]), 0);
    }
}

//! Choosing a token: greedy, or by chance among those the filters keep.

use super::logprob::Candidate;
use std::fmt;

/// Which tokens may be chosen, and how flat their distribution is.
///
/// Applied in this order, that of Hugging Face transformers, each to what the one before left:
/// temperature, `top_k`, `top_p`, `min_p`. (Penalties come before: [`super::penalize`].)
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Filters {
    /// Logits are divided by it. 0: the likeliest token, always.
    pub temperature: f32,
    /// Keeps the k likeliest tokens. 0: all.
    pub top_k: usize,
    /// Keeps the fewest likeliest tokens whose probabilities reach this sum. 1: all.
    pub top_p: f32,
    /// Keeps tokens at least this times as likely as the likeliest. 0: all.
    pub min_p: f32,
}

impl Filters {
    /// The likeliest token, always.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
}

/// Memory of choosing, reused between calls.
#[derive(Clone, Debug, Default)]
pub struct ChoiceScratch {
    pub(super) kept: Vec<Candidate>,
    pub(super) weights: Vec<f64>,
}

/// Logits no token can be chosen from: the model's failure, not the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleError {
    /// The logit of this token is NaN or positive infinity.
    NotFinite(u32),
    /// No logits, or all are negative infinity.
    Empty,
}

/// The token with the largest logit, the lowest id among equals.
///
/// # Errors
/// When the logits are no distribution.
pub fn greedy(logits: &[f32]) -> Result<u32, SampleError> {
    let (mut token, mut largest) = (0, f32::NEG_INFINITY);
    for (number, block) in logits.chunks(BLOCK).enumerate() {
        // Without early ends, which would keep a compiler from making vectors of it.
        let (mut is_valid, mut is_larger) = (true, false);
        for &logit in block {
            is_valid &= logit < f32::INFINITY;
            is_larger |= logit > largest;
        }
        if is_valid && !is_larger {
            continue;
        }
        for (i, &logit) in block.iter().enumerate() {
            let place = number * BLOCK + i;
            if logit.is_nan() || logit == f32::INFINITY {
                return Err(SampleError::NotFinite(place as u32));
            }
            if logit > largest {
                (token, largest) = (place, logit);
            }
        }
    }
    if largest == f32::NEG_INFINITY { Err(SampleError::Empty) } else { Ok(token as u32) }
}

/// Logits that [`greedy`] looks at together.
const BLOCK: usize = 256;

/// The token that `u` in `[0, 1)` falls on when the kept tokens, in order of id, divide that
/// interval by their probabilities.
///
/// # Errors
/// When the logits are no distribution.
pub fn choose(
    logits: &[f32],
    filters: &Filters,
    u: f64,
    scratch: &mut ChoiceScratch,
) -> Result<u32, SampleError> {
    let likeliest = greedy(logits)?;
    if filters.temperature <= 0.0 {
        return Ok(likeliest);
    }
    let weight = weight_of(logits[likeliest as usize], filters.temperature);
    let weigh = |c: &Candidate| weight(c.logit);
    let kept = &mut scratch.kept;
    kept.clear();
    kept.extend(logits.iter().enumerate().map(|(t, &logit)| Candidate { token: t as u32, logit }));
    if 0 < filters.top_k && filters.top_k < kept.len() {
        kept.select_nth_unstable_by(filters.top_k - 1, |a, b| b.cmp(a));
        kept.truncate(filters.top_k);
    }
    if filters.top_p < 1.0 {
        keep_mass(kept, f64::from(filters.top_p), weigh);
    }
    if filters.min_p > 0.0 {
        // The likeliest weighs 1. It stays even when min_p exceeds 1.
        let min = f64::from(filters.min_p).min(1.0);
        kept.retain(|c| weigh(c) >= min);
    }
    fall(kept, weight, u)
}

/// What a logit weighs beside the largest, at a temperature: its share but for the sum of all.
pub(super) fn weight_of(max: f32, temperature: f32) -> impl Fn(f32) -> f64 + Copy {
    let (max, temperature) = (f64::from(max), f64::from(temperature));
    move |logit| ((f64::from(logit) - max) / temperature).exp()
}

/// The token that `u` falls on among those that are kept.
pub(super) fn fall(
    kept: &mut [Candidate],
    weight: impl Fn(f32) -> f64,
    u: f64,
) -> Result<u32, SampleError> {
    let weigh = |c: &Candidate| weight(c.logit);
    kept.sort_unstable_by_key(|c| c.token);
    let total: f64 = kept.iter().map(weigh).sum();
    let mut left = u * total;
    for c in &*kept {
        left -= weigh(c);
        if left < 0.0 {
            return Ok(c.token);
        }
    }
    // Rounding may leave a crumb behind the last.
    kept.iter().rev().find(|c| weigh(c) > 0.0).map(|c| c.token).ok_or(SampleError::Empty)
}

/// Keeps the fewest likeliest candidates whose weights reach `share` of the whole; at least one.
///
/// Most of the mass sits in few tokens, so the order is only worked out as far as it is needed,
/// in pieces that double.
fn keep_mass(kept: &mut Vec<Candidate>, share: f64, weigh: impl Fn(&Candidate) -> f64) {
    let mut needed = kept.iter().map(&weigh).sum::<f64>() * share;
    let (mut ordered, mut piece) = (0, 64);
    while ordered < kept.len() {
        let rest = &mut kept[ordered..];
        if piece < rest.len() {
            rest.select_nth_unstable_by(piece, |a, b| b.cmp(a));
        }
        let piece_len = piece.min(rest.len());
        rest[..piece_len].sort_unstable_by(|a, b| b.cmp(a));
        for c in &rest[..piece_len] {
            ordered += 1;
            needed -= weigh(c);
            if needed <= 0.0 {
                kept.truncate(ordered);
                return;
            }
        }
        piece *= 2;
    }
}

impl fmt::Display for SampleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite(token) => write!(f, "the model's logit of token {token} is no number"),
            Self::Empty => f.write_str("the model gives no token a probability"),
        }
    }
}

impl std::error::Error for SampleError {}

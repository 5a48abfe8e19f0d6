//! From a row's logits to scores and to the next token, as the request asks.

use crate::{Sampling, TokenLogprob, runner::Forwarded, sequence::Sequence};
use kernels::{
    Choice, ChoiceScratch, Filters, Penalties, PenaltyScratch, choose, log_sum_exp, penalize, top,
    uniform,
};
use models::TokenId;

/// Reads logits; keeps memory between rows.
#[derive(Default)]
pub(crate) struct Sampler {
    /// Logits before penalties, where they are asked for.
    raw: Vec<f32>,
    choice: ChoiceScratch,
    penalty: PenaltyScratch,
}

impl Sampler {
    /// What own row `row` of a sequence says: the score of the tail token behind it, and, at the
    /// end, the next token. Scores are of the logits as they are, before temperature and
    /// penalties. Chance is the seed's number at the output position, so that a generation can
    /// be replayed to the token.
    ///
    /// # Panics
    /// When a logit is no number: the model is broken.
    pub(crate) fn read(
        &mut self,
        sequence: &Sequence,
        row: usize,
        logits: &mut [f32],
        into: &mut Forwarded,
    ) {
        let request = &sequence.request;
        let alternatives = request.logprobs.unwrap_or(0);
        let is_last = row + 1 == sequence.own.len();
        if !sequence.scores_told {
            let sum = log_sum_exp(logits);
            if is_last {
                into.next_top = top_logprobs(logits, sum, alternatives);
            } else {
                into.scores.push(score(logits, sum, sequence.own[row + 1], alternatives));
            }
        }
        if !is_last || !sequence.wants_token() {
            return;
        }
        let raw = request.logprobs.map(|_| {
            let sum = log_sum_exp(logits);
            self.raw.clear();
            self.raw.extend_from_slice(logits);
            (sum, top_logprobs(logits, sum, alternatives))
        });
        let sampling = &request.sampling;
        let position = sequence.output().len();
        if let Some(&token) = sampling.forced.get(position) {
            into.next = Some((token, raw.map(|(sum, top)| self.logprob(token, sum, top))));
            return;
        }
        let (penalties, tail) = (penalties(sampling), &request.composition.tail);
        penalize(logits, &penalties, tail, sequence.output(), &mut self.penalty);
        let filters = filters(sampling);
        let u = uniform(sampling.seed, position as u64);
        let token = choose(logits, &filters, u, &mut self.choice)
            .unwrap_or_else(|error| panic!("no next token: {error}"));
        into.next = Some((token, raw.map(|(sum, top)| self.logprob(token, sum, top))));
    }

    /// The next token, by what a choice among tokens is made of at
    /// [`temperature_of_choice`]. `false` where that leaves it open, and [`Self::read`] is to tell.
    ///
    /// # Panics
    /// When a logit is no number: the model is broken.
    pub(crate) fn read_choice(
        &mut self,
        sequence: &Sequence,
        choice: &Choice,
        into: &mut Forwarded,
    ) -> bool {
        let (sampling, position) = (&sequence.request.sampling, sequence.output().len());
        let token = sampling.forced.get(position).copied().or_else(|| {
            let u = uniform(sampling.seed, position as u64);
            choice
                .choose(&filters(sampling), u, &mut self.choice)
                .unwrap_or_else(|error| panic!("no next token: {error}"))
        });
        into.next = token.map(|token| (token, None));
        token.is_some()
    }

    fn logprob(&self, token: TokenId, sum: f32, top: Vec<(TokenId, f32)>) -> TokenLogprob {
        TokenLogprob { token, logprob: self.raw[token as usize] - sum, top }
    }
}

/// The temperature of the choice that may be all that is asked of a sequence's own row `row`; none where
/// its logits are wanted: to score, to penalize tokens, or to choose among too many.
pub(crate) fn temperature_of_choice(sequence: &Sequence, row: usize) -> Option<f32> {
    let sampling = &sequence.request.sampling;
    let is_scored = !sequence.scores_told || sequence.request.logprobs.is_some();
    if is_scored || row + 1 != sequence.own.len() || !sequence.wants_token() {
        return None;
    }
    if sequence.output().len() < sampling.forced.len() {
        return Some(0.0);
    }
    let filters = filters(sampling);
    let is_enough = penalties(sampling) == Penalties::OFF && filters.may_keep_few();
    is_enough.then_some(filters.temperature)
}

fn filters(sampling: &Sampling) -> Filters {
    let Sampling { temperature, top_k, top_p, min_p, .. } = *sampling;
    Filters { temperature, top_k, top_p, min_p }
}

fn penalties(sampling: &Sampling) -> Penalties {
    Penalties {
        repetition: sampling.repetition_penalty,
        presence: sampling.presence_penalty,
        frequency: sampling.frequency_penalty,
    }
}

fn score(logits: &[f32], sum: f32, token: TokenId, alternatives: usize) -> TokenLogprob {
    let logprob = logits[token as usize] - sum;
    TokenLogprob { token, logprob, top: top_logprobs(logits, sum, alternatives) }
}

fn top_logprobs(logits: &[f32], sum: f32, alternatives: usize) -> Vec<(TokenId, f32)> {
    let mut best = top(logits, alternatives);
    for (_, logit) in &mut best {
        *logit -= sum;
    }
    best
}

//! What a request must answer, computed from the request alone by plain recursion: no pages, no
//! batches, no cache, one token after the other.

use crate::hash_model::{KvRow, LAYERS, begin, digest_of, logits_of, next, shown};
use engine::{Event, FinishReason, JoinPolicy, Request, TokenLogprob};
use kernels::{ChoiceScratch, Filters, Penalties, PenaltyScratch};
use models::{ModelShape, TokenId};

/// The tail's scores, and the alternatives behind it.
type Scored = (Vec<TokenLogprob>, Vec<(TokenId, f32)>);

/// What a reader must hear.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) scored: Option<Scored>,
    pub(crate) tokens: Vec<(TokenId, Option<TokenLogprob>)>,
    pub(crate) finish_reason: FinishReason,
}

impl Answer {
    /// The events up to the end, without texts and accounts.
    pub(crate) fn heard(events: &[Event]) -> Option<Self> {
        let mut answer =
            Self { scored: None, tokens: Vec::new(), finish_reason: FinishReason::Length };
        for event in events {
            match event.clone() {
                Event::Scored { tail, next_top } => answer.scored = Some((tail, next_top)),
                Event::Token { token, logprob, .. } => answer.tokens.push((token, logprob)),
                Event::Finished { summary, .. } => {
                    answer.finish_reason = summary.finish_reason;
                    return Some(answer);
                }
                Event::Failed(_) => return None,
            }
        }
        None
    }

    /// Everything in `self` is how `whole` begins.
    pub(crate) fn begins(&self, whole: &Self) -> bool {
        (self.scored.is_none() || self.scored == whole.scored)
            && whole.tokens.starts_with(&self.tokens)
    }
}

/// What stands before the model: composed positions with their KV.
#[derive(Clone, Default)]
struct Shown {
    rows: Vec<(u32, [u64; LAYERS])>,
}

impl Shown {
    /// Forwards one token at the end, and returns its state after the last layer.
    fn push(&mut self, token: TokenId) -> u64 {
        let position = self.rows.len() as u32;
        let mut state = begin(token);
        self.rows.push((position, [0; LAYERS]));
        for layer in 0..LAYERS {
            self.rows.last_mut().unwrap().1[layer] = state;
            let see = |&(at, seen): &(u32, [u64; LAYERS])| shown(at, i64::from(at), seen[layer]);
            let sum = self.rows.iter().map(see).fold(0, u64::wrapping_add);
            state = next(state, position, sum);
        }
        state
    }

    fn push_all(&mut self, tokens: &[TokenId]) -> u64 {
        tokens.iter().map(|&token| self.push(token)).last().unwrap_or_default()
    }

    /// Places rows that were encoded elsewhere.
    fn place(&mut self, rows: &[(u32, [u64; LAYERS])]) {
        for &(_, seen) in rows {
            self.rows.push((self.rows.len() as u32, seen));
        }
    }
}

/// The rows of a fragment encoded after a root.
fn encode(root: &[TokenId], tokens: &[TokenId]) -> Vec<(u32, [u64; LAYERS])> {
    let mut shown = Shown::default();
    shown.push_all(root);
    shown.push_all(tokens);
    shown.rows.split_off(root.len())
}

/// The digest of a fragment's KV.
pub(crate) fn digest(root: &[TokenId], tokens: &[TokenId]) -> [u8; 32] {
    let rows = encode(root, tokens);
    digest_of(rows.iter().map(|&(at, seen)| KvRow { position: i64::from(at), seen }))
}

/// The whole answer.
pub(crate) fn answer(request: &Request, shape: &ModelShape) -> Answer {
    let composition = &request.composition;
    let mut shown = Shown::default();
    shown.push_all(&composition.root);
    for placement in &composition.placements {
        match request.policy {
            JoinPolicy::Recompute => drop(shown.push_all(placement)),
            JoinPolicy::Reuse => shown.place(&encode(&composition.root, placement)),
            other => panic!("no oracle for {other}"),
        }
    }
    let tail = &composition.tail;
    let mut scores = Vec::new();
    let mut state = 0;
    for (i, &token) in tail.iter().enumerate() {
        state = shown.push(token);
        if let Some(&following) = tail.get(i + 1) {
            scores.push(score(request, &logits_of(state, shape.vocab), following));
        }
    }
    let next_top = top(request, &logits_of(state, shape.vocab));
    let scored = request.echo.then_some((scores, next_top));
    let (tokens, finish_reason) = generate(request, shape, &mut shown, state);
    Answer { scored, tokens, finish_reason }
}

fn generate(
    request: &Request,
    shape: &ModelShape,
    shown: &mut Shown,
    mut state: u64,
) -> (Vec<(TokenId, Option<TokenLogprob>)>, FinishReason) {
    let mut tokens: Vec<(TokenId, Option<TokenLogprob>)> = Vec::new();
    let prompt = shown.rows.len();
    loop {
        if tokens.len() == request.max_tokens {
            return (tokens, FinishReason::Length);
        }
        if prompt + tokens.len() == shape.context_max {
            return (tokens, FinishReason::Context);
        }
        let logits = logits_of(state, shape.vocab);
        let answer: Vec<TokenId> = tokens.iter().map(|&(token, _)| token).collect();
        let token = choose(request, &logits, &answer);
        if request.stop_tokens.contains(&token) {
            return (tokens, FinishReason::Stop);
        }
        tokens.push((token, request.logprobs.map(|_| score(request, &logits, token))));
        state = shown.push(token);
    }
}

fn choose(request: &Request, logits: &[f32], answer: &[TokenId]) -> TokenId {
    let sampling = &request.sampling;
    if let Some(&token) = sampling.forced.get(answer.len()) {
        return token;
    }
    let penalties = Penalties {
        repetition: sampling.repetition_penalty,
        presence: sampling.presence_penalty,
        frequency: sampling.frequency_penalty,
    };
    let mut logits = logits.to_vec();
    let tail = &request.composition.tail;
    kernels::penalize(&mut logits, &penalties, tail, answer, &mut PenaltyScratch::default());
    let filters = Filters {
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        min_p: sampling.min_p,
    };
    let u = kernels::uniform(sampling.seed, answer.len() as u64);
    kernels::choose(&logits, &filters, u, &mut ChoiceScratch::default()).unwrap()
}

fn score(request: &Request, logits: &[f32], token: TokenId) -> TokenLogprob {
    let logprob = logits[token as usize] - kernels::log_sum_exp(logits);
    TokenLogprob { token, logprob, top: top(request, logits) }
}

fn top(request: &Request, logits: &[f32]) -> Vec<(TokenId, f32)> {
    let sum = kernels::log_sum_exp(logits);
    let best = kernels::top(logits, request.logprobs.unwrap_or(0));
    best.into_iter().map(|(token, logit)| (token, logit - sum)).collect()
}

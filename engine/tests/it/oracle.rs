//! What a request must answer, computed from the request alone by plain recursion: no pages, no
//! batches, no cache, one token after the other.

use crate::hash_model::{
    KvRow, LAYERS, begin, deviation, digest_of, logits_of, next, shown, tempered, weight,
};
use engine::{
    Composition, Event, FinishReason, FragmentInfo, JoinPolicy, Placement, Request, TokenLogprob,
};
use kernels::{ChoiceScratch, Filters, Penalties, PenaltyScratch};
use models::{ModelShape, TokenId, Weight};
use std::{ops::Range, sync::Arc};

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
                Event::Chosen { .. } | Event::Swapped { .. } | Event::Restarted { .. } => {}
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

/// What was sealed so far, each with its rows as they were when it was.
pub(crate) type Shelf = [(Placement, Vec<Row>)];

/// A row that stands before the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) position: u32,
    seen: [u64; LAYERS],
    /// Temperature and scale it is weighed with.
    tempered: Option<(f32, f32)>,
}

/// What stands before the model.
#[derive(Clone, Default)]
struct Shown {
    rows: Vec<Row>,
}

impl Shown {
    /// Forwards one token after all others, and returns its state after the last layer.
    fn push(&mut self, token: TokenId) -> u64 {
        self.push_at(self.rows.iter().map(|row| row.position + 1).max().unwrap_or(0), token)
    }

    fn push_at(&mut self, position: u32, token: TokenId) -> u64 {
        self.rows.push(Row { position, seen: [0; LAYERS], tempered: None });
        self.compute(self.rows.len() - 1, token, &mut |_, _, _| {})
    }

    /// Computes row number `index`, and returns its state after the last layer. `weigh` hears of
    /// every row that it sees.
    fn compute(
        &mut self,
        index: usize,
        token: TokenId,
        weigh: &mut impl FnMut(u64, usize, u64),
    ) -> u64 {
        let position = self.rows[index].position;
        let mut state = begin(token);
        for layer in 0..LAYERS {
            self.rows[index].seen[layer] = state;
            let mut sum = 0_u64;
            for (number, shown) in self.see(position, layer) {
                sum = sum.wrapping_add(shown);
                weigh(state, number, shown);
            }
            state = next(state, position, sum);
        }
        state
    }

    /// Rows seen from a position, with what they show in a layer.
    fn see(&self, from: u32, layer: usize) -> Vec<(usize, u64)> {
        let seen = self.rows.iter().enumerate().filter(|(_, row)| row.position <= from);
        let show = |(number, row): (usize, &Row)| {
            let shown = shown(row.position, i64::from(row.position), row.seen[layer]);
            (number, row.tempered.map_or(shown, |(t, s)| tempered(shown, t, s)))
        };
        seen.map(show).collect()
    }

    fn push_all(&mut self, tokens: &[TokenId]) -> u64 {
        tokens.iter().map(|&token| self.push(token)).last().unwrap_or_default()
    }
}

/// Nothing comes of fragments.
pub(crate) fn is_plain(policy: JoinPolicy) -> bool {
    [JoinPolicy::Recompute, JoinPolicy::Auto { quality: 1.0 }].contains(&policy)
}

/// The placements of a composition joined, before anything is computed again.
fn joined(request: &Request, shelf: &Shelf) -> Shown {
    let composition = &request.composition;
    let mut shown = Shown::default();
    shown.push_all(&composition.root);
    let root = composition.root.len();
    for placement in &composition.placements {
        let start = match request.policy {
            JoinPolicy::Parallel { .. } => root,
            _ => shown.rows.len(),
        };
        for (i, row) in held(&composition.root, placement, shelf).into_iter().enumerate() {
            let tempered = match request.policy {
                JoinPolicy::Parallel { temperature, scale } => {
                    Some((temperature as f32, scale as f32))
                }
                _ => None,
            };
            shown.rows.push(Row { position: (start + i) as u32, tempered, ..row });
        }
    }
    shown
}

/// Positions of the rows of placements that are computed again.
pub(crate) fn selected(request: &Request, shape: &ModelShape, shelf: &Shelf) -> Vec<u32> {
    if let Some(selected) = &request.selected {
        return selected.to_vec();
    }
    let Composition { root, placements, tail } = &request.composition;
    let rows: usize = placements.iter().map(|placement| placement.tokens.len()).sum();
    let shown = joined(request, shelf);
    let mut scores = vec![0.0; rows];
    let ratio = match request.policy {
        JoinPolicy::Boundary { tokens } => {
            let mut start = root.len();
            let starts = placements.iter().map(|placement| {
                start += placement.tokens.len();
                start - placement.tokens.len()..start
            });
            let later = starts.skip(clean_first(placements)).flat_map(|range| range.take(tokens));
            return later.map(|position| position as u32).collect();
        }
        JoinPolicy::Query { .. } | JoinPolicy::Auto { .. } => {
            let by = match request.policy {
                JoinPolicy::Query { .. } => Weight::Attention,
                _ => Weight::Influence,
            };
            let mut shown = shown;
            let mut state = 0;
            for &token in tail {
                state = shown.push(token);
                let last = shown.rows.len() - 1;
                shown.compute(last, token, &mut |state, row, what| {
                    if let Some(score) = row.checked_sub(root.len()).and_then(|r| scores.get_mut(r))
                    {
                        *score += weight(by, state, what) as f64;
                    }
                });
            }
            match request.policy {
                JoinPolicy::Query { ratio } => ratio,
                JoinPolicy::Auto { quality } => {
                    let open = entropy(&logits_of(state, shape.vocab));
                    return auto((quality, open), &scores, request);
                }
                _ => unreachable!(),
            }
        }
        JoinPolicy::Deviation { ratio } => {
            let tokens = placements.iter().flat_map(|placement| placement.tokens.iter());
            for ((row, score), &token) in
                shown.rows[root.len()..].iter().zip(&mut scores).zip(tokens)
            {
                let sum = shown.see(row.position, 0).into_iter().map(|(_, what)| what);
                let fresh = next(begin(token), row.position, sum.fold(0, u64::wrapping_add));
                *score = deviation(fresh, row.seen[1]);
            }
            ratio
        }
        _ => return Vec::new(),
    };
    best(&scores, ratio, root.len())
}

/// The rows that `auto` computes again.
fn auto((quality, open): (f64, f64), scores: &[f64], request: &Request) -> Vec<u32> {
    let Composition { placements, tail, .. } = &request.composition;
    let later = placements.len() - clean_first(placements).min(placements.len());
    if later == 0 || is_plain(request.policy) {
        return Vec::new();
    }
    let left = (((scores.len() as f64 * 0.2) as usize).max(1)).saturating_sub(tail.len());
    if left >= 2 * later && open < 25.0 * (1.0 - quality) {
        return Vec::new();
    }
    let is_exact = |placement: usize| placement < placements.len() - later;
    // Of each row: which placement it is in, and which row of it.
    let places: Vec<(usize, usize)> = placements
        .iter()
        .enumerate()
        .flat_map(|(i, placement)| (0..placement.tokens.len()).map(move |row| (i, row)))
        .collect();
    let budget = ((scores.len() as f64 * 0.2) as usize).max(1);
    let left = budget.saturating_sub(tail.len());
    let heads = if left < 2 * later { budget / later } else { 0 };
    let mut chosen: Vec<bool> =
        places.iter().map(|&(i, row)| !is_exact(i) && row < heads).collect();
    let wanted = quality * scores.iter().sum::<f64>();
    while left >= 2 * later && chosen.iter().filter(|is| **is).count() < left {
        let is_held = |row: usize| chosen[row] || is_exact(places[row].0);
        let held: f64 = (0..scores.len()).filter(|&row| is_held(row)).map(|row| scores[row]).sum();
        let open = (0..scores.len()).filter(|&row| !is_held(row)).rev();
        let best = open.max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        let Some(best) = best.filter(|_| held < wanted) else { break };
        chosen[best] = true;
    }
    let rows = (0..scores.len()).filter(|&row| chosen[row]);
    rows.map(|row| (request.composition.root.len() + row) as u32).collect()
}

/// The entropy of the next token.
fn entropy(logits: &[f32]) -> f64 {
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    let each = logits.iter().map(|&logit| f64::from(logit).exp() / sum);
    each.map(|p| -p * p.ln()).sum()
}

/// The best share of rows, ties to the earlier; at least one, where there is any.
fn best(scores: &[f64], ratio: f64, root: usize) -> Vec<u32> {
    let mut left: Vec<usize> = (0..scores.len()).collect();
    let count = ((scores.len() as f64 * ratio) as usize).max(1).min(scores.len());
    let mut chosen = Vec::new();
    for _ in 0..count {
        let mut at = 0;
        for (i, &row) in left.iter().enumerate() {
            if scores[row] > scores[left[at]] {
                at = i;
            }
        }
        chosen.push((root + left.remove(at)) as u32);
    }
    chosen.sort_unstable();
    chosen
}

/// 1 where the first placement saw exactly what stands before it, else 0.
pub(crate) fn clean_first(placements: &[Placement]) -> usize {
    placements.first().filter(|placement| placement.sealed.is_none()).map_or(0, |_| 1)
}

/// The rows of a placement as they are cached.
fn held(root: &[TokenId], placement: &Placement, shelf: &Shelf) -> Vec<Row> {
    if placement.sealed.is_none() {
        return encode(root, &placement.tokens);
    }
    let sealed = shelf.iter().find(|(known, _)| known == placement);
    sealed.expect("what is placed was sealed").1.clone()
}

/// The rows of a fragment encoded after a root.
fn encode(root: &[TokenId], tokens: &[TokenId]) -> Vec<Row> {
    let mut shown = Shown::default();
    shown.push_all(root);
    shown.push_all(tokens);
    shown.rows.split_off(root.len())
}

/// The digest of a fragment's KV.
pub(crate) fn digest(root: &[TokenId], tokens: &[TokenId]) -> [u8; 32] {
    digest_of_rows(&encode(root, tokens))
}

/// The digest of what is known of a fragment, clean or sealed.
pub(crate) fn digest_held(info: &FragmentInfo, shelf: &Shelf) -> [u8; 32] {
    let FragmentInfo { root, tokens, sealed, .. } = info;
    let placement = Placement { tokens: tokens.clone(), sealed: sealed.clone() };
    digest_of_rows(&held(root, &placement, shelf))
}

/// The digest of the KV of rows that stand where they were computed.
pub(crate) fn digest_of_rows(rows: &[Row]) -> [u8; 32] {
    digest_of(rows.iter().map(|row| KvRow { position: i64::from(row.position), seen: row.seen }))
}

/// What a request's tail and `answer` are when they are sealed: their tokens and rows.
pub(crate) fn sealed(
    request: &Request,
    shape: &ModelShape,
    shelf: &Shelf,
    answer: &[TokenId],
) -> (Vec<TokenId>, Vec<Row>) {
    let mut shown = before_tail(request, shape, shelf);
    let closing = request.seal.iter().flat_map(|seal| &seal.closing);
    let tokens: Vec<TokenId> =
        request.composition.tail.iter().chain(answer).chain(closing).copied().collect();
    let before = shown.rows.len();
    shown.push_all(&tokens);
    (tokens, shown.rows.split_off(before))
}

/// Everything before the tail.
fn before_tail(request: &Request, shape: &ModelShape, shelf: &Shelf) -> Shown {
    let Composition { root, placements, .. } = &request.composition;
    let placed = placements.iter().flat_map(|placement| placement.tokens.iter());
    let tokens: Vec<TokenId> = root.iter().chain(placed).copied().collect();
    if is_plain(request.policy) {
        let mut shown = Shown::default();
        shown.push_all(&tokens);
        return shown;
    }
    let mut shown = joined(request, shelf);
    for position in selected(request, shape, shelf) {
        shown.compute(position as usize, tokens[position as usize], &mut |_, _, _| {});
    }
    shown
}

/// The whole answer to a request without sealed placements.
pub(crate) fn answer(request: &Request, shape: &ModelShape) -> Answer {
    answer_over(request, shape, &[])
}

/// What happened to a generation under way, after so many tokens of its answer.
#[derive(Clone, Debug)]
pub(crate) enum Turn {
    Swapped(usize, Range<usize>, Vec<Arc<[TokenId]>>),
    Restarted(usize),
}

impl Turn {
    fn at(&self) -> usize {
        match *self {
            Self::Swapped(at, ..) | Self::Restarted(at) => at,
        }
    }
}

/// The whole answer.
pub(crate) fn answer_over(request: &Request, shape: &ModelShape, shelf: &Shelf) -> Answer {
    answer_through(request, shape, shelf, &[])
}

/// The whole answer of a generation that was not left alone.
pub(crate) fn answer_through(
    request: &Request,
    shape: &ModelShape,
    shelf: &Shelf,
    turns: &[Turn],
) -> Answer {
    let mut shown = before_tail(request, shape, shelf);
    let mut table = Table::new(request, &shown);
    let tail = &request.composition.tail;
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
    let through = (&mut table, turns);
    let (tokens, finish_reason) = generate(request, shape, (&mut shown, state), through);
    Answer { scored, tokens, finish_reason }
}

/// Which rows are whose.
struct Table {
    root: Vec<TokenId>,
    tempered: Option<(f32, f32)>,
    /// Of each placement: where it begins, and how many rows it has.
    placed: Vec<(u32, usize)>,
    /// Position of the first own row.
    own_start: u32,
}

impl Table {
    fn new(request: &Request, shown: &Shown) -> Self {
        let Composition { root, placements, .. } = &request.composition;
        let tempered = match request.policy {
            JoinPolicy::Parallel { temperature, scale } => Some((temperature as f32, scale as f32)),
            _ => None,
        };
        let mut row = root.len();
        let placed = placements.iter().map(|placement| {
            let begins = (shown.rows[row].position, placement.tokens.len());
            row += placement.tokens.len();
            begins
        });
        let placed = placed.collect();
        let own_start = shown.rows.iter().map(|row| row.position + 1).max().unwrap_or(0);
        Self { root: root.to_vec(), tempered, placed, own_start }
    }

    fn rows(&self) -> usize {
        self.root.len() + self.placed.iter().map(|&(_, rows)| rows).sum::<usize>()
    }

    fn swap(&mut self, shown: &mut Shown, range: Range<usize>, with: &[Arc<[TokenId]>]) {
        let first = self.root.len() + self.placed[..range.start].iter().map(|p| p.1).sum::<usize>();
        let gone: usize = self.placed[range.clone()].iter().map(|p| p.1).sum();
        let mut start = self.placed.get(range.start).map_or(self.own_start, |p| p.0);
        let (mut rows, mut placed) = (Vec::new(), Vec::new());
        for tokens in with {
            placed.push((start, tokens.len()));
            for (i, row) in encode(&self.root, tokens).into_iter().enumerate() {
                rows.push(Row { position: start + i as u32, tempered: self.tempered, ..row });
            }
            start += if self.tempered.is_none() { tokens.len() as u32 } else { 0 };
        }
        shown.rows.splice(first..first + gone, rows);
        self.placed.splice(range, placed);
    }

    /// Computes all own rows again, but for that of the last token.
    fn restart(&self, shown: &mut Shown, own: &[TokenId]) {
        shown.rows.truncate(self.rows());
        for (position, &token) in (self.own_start..).zip(own) {
            shown.push_at(position, token);
        }
    }
}

fn generate(
    request: &Request,
    shape: &ModelShape,
    (shown, mut state): (&mut Shown, u64),
    (table, turns): (&mut Table, &[Turn]),
) -> (Vec<(TokenId, Option<TokenLogprob>)>, FinishReason) {
    let mut tokens: Vec<(TokenId, Option<TokenLogprob>)> = Vec::new();
    let prompt = shown.rows.last().map_or(0, |row| row.position as usize + 1);
    loop {
        if tokens.len() == request.max_tokens {
            return (tokens, FinishReason::Length);
        }
        let closing = request.seal.as_ref().map_or(0, |seal| seal.closing.len());
        if prompt + tokens.len() + closing == shape.context_max {
            return (tokens, FinishReason::Context);
        }
        let logits = logits_of(state, shape.vocab);
        let answer: Vec<TokenId> = tokens.iter().map(|&(token, _)| token).collect();
        let token = choose(request, &logits, &answer);
        if request.stop_tokens.contains(&token) {
            return (tokens, FinishReason::Stop);
        }
        tokens.push((token, request.logprobs.map(|_| score(request, &logits, token))));
        let tail = request.composition.tail.iter().copied();
        let own: Vec<TokenId> = tail.chain(tokens.iter().map(|&(token, _)| token)).collect();
        for turn in turns.iter().filter(|turn| turn.at() == tokens.len()) {
            match turn {
                Turn::Swapped(_, range, with) => table.swap(shown, range.clone(), with),
                Turn::Restarted(_) => table.restart(shown, &own[..own.len() - 1]),
            }
        }
        state = if turns.is_empty() {
            shown.push(token)
        } else {
            shown.push_at(table.own_start + own.len() as u32 - 1, token)
        };
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

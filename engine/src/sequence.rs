//! A sequence: one live generation. What it was asked, how far it is, and its reader.

use crate::{
    Counts, Event, FinishReason, FragmentId, Request, RequestError, Sealed, Sink, Summary, Swap,
    Timings, TokenLogprob, alike::BeforeSwap, fragments::Content, job::Joined, policy::Layout,
    repair::Repair, text::Text,
};
use kernels::PageId;
use models::{ModelShape, TokenId, Tokenizer};
use std::{ops::Range, sync::Arc, time::Duration};

/// One live generation.
///
/// Its *own run* holds the rows no record holds: own row `i` stands at composed position
/// `own_start + i`. Rows `0..rows` are computed; the others wait to be forwarded. Prefill and
/// decode are the same thing: rows are missing, many or one.
pub(crate) struct Sequence {
    pub(crate) request: Request,
    /// The root's record; none where nothing comes of fragments.
    pub(crate) root: Option<Content>,
    /// Records in composition order.
    pub(crate) placements: Vec<Content>,
    /// Composed position of each one's first row.
    pub(crate) starts: Vec<u32>,
    /// How often other fragments were put in.
    pub(crate) swaps: u32,
    /// Rows that are there and were before the first swap; none where all saw what is placed now.
    pub(crate) before_swap: Option<BeforeSwap>,
    /// What is computed again of the placements.
    pub(crate) repair: Option<Repair>,
    /// Placements that this call encoded.
    encoded: Vec<bool>,
    layers: usize,
    pub(crate) own_start: usize,
    /// Own row of the first token of the tail.
    pub(crate) tail_at: usize,
    /// Prompt and answer so far.
    pub(crate) own: Vec<TokenId>,
    pub(crate) prompt_len: usize,
    /// Tokens the answer may have: `max_tokens`, or fewer where the context ends.
    pub(crate) output_max: usize,
    /// Where the answer ended, and why, when rows are still wanted to seal it.
    pub(crate) closing: Option<(usize, FinishReason)>,
    pub(crate) pages: Vec<PageId>,
    /// Own rows computed.
    pub(crate) rows: usize,
    /// Scores of the tail so far; not yet told.
    pub(crate) scores: Vec<TokenLogprob>,
    pub(crate) scores_told: bool,
    pub(crate) text: Text,
    pub(crate) stream: Stream,
    pub(crate) counts: Counts,
    pub(crate) times: Times,
}

/// Moments of a generation, by the engine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) submitted: Duration,
    pub(crate) admitted: Option<Duration>,
    /// All records it needs were whole.
    pub(crate) composed: Option<Duration>,
    /// All rows that are computed again were whole.
    pub(crate) repaired: Option<Duration>,
    /// Building the table of its first step took this long.
    pub(crate) join: Option<Duration>,
    /// The last row of the prompt was computed.
    pub(crate) prefilled: Option<Duration>,
    pub(crate) first_token: Option<Duration>,
    pub(crate) last_token: Duration,
}

impl Sequence {
    pub(crate) fn new(
        request: Request,
        shape: &ModelShape,
        tokenizer: Option<Arc<Tokenizer>>,
        submitted: Duration,
    ) -> Self {
        let text = Text::new(tokenizer, &request.stop_strings);
        let counts = Counts {
            root: request.composition.root.len(),
            tail: request.composition.tail.len(),
            ..Counts::default()
        };
        let mut sequence = Self {
            output_max: 0,
            closing: None,
            prompt_len: 0,
            starts: Vec::new(),
            swaps: 0,
            before_swap: None,
            root: None,
            placements: Vec::new(),
            repair: None,
            encoded: Vec::new(),
            layers: shape.layers,
            own_start: 0,
            tail_at: 0,
            own: Vec::new(),
            pages: Vec::new(),
            rows: 0,
            scores: Vec::new(),
            scores_told: !request.echo,
            text,
            stream: Stream::default(),
            counts,
            times: Times { submitted, ..Times::default() },
            request,
        };
        sequence.compose(shape);
        sequence
    }

    /// Begins with what its request asks for: nothing is computed yet.
    pub(crate) fn compose(&mut self, shape: &ModelShape) {
        let request = &self.request;
        let joined = Joined::new(shape, request);
        let Joined { root, placements, own_start, tail_at, mut own, repair } = joined;
        let (prompt_len, given) = (own.len(), own_start + own.len());
        assert!(given <= shape.context_max, "too long a composition was refused before");
        let closing = closing_len(request);
        let output_max = request.max_tokens.min(shape.context_max - given - closing);
        // At most a context's worth, and no step has to ask for more.
        own.reserve_exact(output_max + closing);
        self.starts = starts(request, &placements);
        (self.root, self.placements, self.repair) = (root, placements, repair);
        (self.own, self.own_start, self.tail_at) = (own, own_start, tail_at);
        (self.prompt_len, self.output_max) = (prompt_len, output_max);
    }

    /// The answer so far.
    pub(crate) fn output(&self) -> &[TokenId] {
        let end = self.closing.map_or(self.own.len(), |(end, _)| end);
        &self.own[self.prompt_len..end]
    }

    /// Pages of its own run, and those it keeps for rows that are not chosen yet.
    pub(crate) fn all_pages(&self) -> impl Iterator<Item = &PageId> {
        let reserved = self.repair.iter().flat_map(|repair| &repair.reserved);
        self.pages.iter().chain(reserved)
    }

    /// Rows not computed yet.
    pub(crate) fn rows_missing(&self) -> usize {
        self.own.len() - self.rows
    }

    /// Own rows at the very end: the last token of an answer is forwarded only to be sealed.
    pub(crate) fn rows_max(&self) -> usize {
        match &self.request.seal {
            None => self.prompt_len + self.output_max.saturating_sub(1),
            Some(seal) => self.prompt_len + self.output_max + seal.closing.len(),
        }
    }

    /// Another token is wanted after the last row.
    pub(crate) fn wants_token(&self) -> bool {
        self.closing.is_none() && self.output().len() < self.output_max
    }

    /// The answer is over. `true`: not yet at its end, because rows are wanted to seal it.
    pub(crate) fn begin_closing(&mut self, reason: FinishReason) -> bool {
        let Some(seal) = self.request.seal.as_ref().filter(|_| self.closing.is_none()) else {
            return false;
        };
        self.closing = Some((self.own.len(), reason));
        self.own.extend(&seal.closing);
        self.rows_missing() > 0
    }

    /// Placements stand one after another.
    pub(crate) fn is_sequential(&self) -> bool {
        self.request.policy.layout() == Layout::Sequential
    }

    /// What tail and answer are as a fragment: nothing where they were computed after nothing, after
    /// one thing and then another, or not to their end.
    pub(crate) fn sealed(&self, fingerprint: &[u8; 32]) -> Option<Content> {
        let is_whole = self.closing.is_some() && self.rows_missing() == 0 && self.swaps == 0;
        let root = self.root.as_ref().filter(|_| is_whole)?;
        let tokens = Arc::from(&self.own[..]);
        if self.placements.is_empty() {
            return Some(Content::after(fingerprint, root, &tokens));
        }
        let seen = Sealed {
            saw: self.placements.iter().map(|placement| placement.id).collect(),
            policy: self.request.policy,
            selected: self.selected(),
            start: self.own_start as u32,
        };
        Some(Content::sealed(fingerprint, root, &tokens, &Arc::new(seen)))
    }

    /// Own rows that may come from a cache: the last row is always computed, and so are those
    /// whose scores are wanted.
    pub(crate) fn rows_reusable(&self) -> usize {
        if self.scores_told { self.own.len() - 1 } else { self.tail_at + self.scores.len() }
    }

    /// Of the batch rows `rows`, how many at the end need logits.
    pub(crate) fn logits_wanted(&self, rows: &Range<usize>) -> usize {
        if !self.scores_told {
            return rows.end - self.rows_reusable().clamp(rows.start, rows.end);
        }
        usize::from(rows.end == self.own.len() && self.wants_token())
    }

    /// Why nothing more is generated, if so.
    pub(crate) fn limit_reached(&self) -> Option<FinishReason> {
        let output = self.output().len();
        if let Some((_, reason)) = self.closing {
            Some(reason)
        } else if output >= self.request.max_tokens {
            Some(FinishReason::Length)
        } else {
            (output >= self.output_max).then_some(FinishReason::Context)
        }
    }

    /// The answer is what plain concatenation computes: where nothing comes of fragments always;
    /// else when every row that did not see what stands before it was computed again, and all
    /// rows are weighed alike.
    pub(crate) fn is_exact(&self) -> bool {
        let weighs_alike = match self.request.policy.layout() {
            Layout::Sequential => true,
            Layout::Parallel { temperature, scale } => temperature == 1.0 && scale == 1.0,
        };
        let is_whole = |repair: &Repair| weighs_alike && repair.is_exact() && self.swaps == 0;
        self.repair.as_ref().is_none_or(is_whole)
    }

    /// Its KV is exact from position 0 on, and may be published as a prefix.
    pub(crate) fn is_publishable(&self) -> bool {
        self.repair.is_none()
    }

    /// Rows of the tail as it was given.
    pub(crate) fn tail_rows(&self) -> usize {
        self.prompt_len - self.tail_at
    }

    /// Accounts for what was cached, at the first admission. `encodes` says which records this
    /// job encodes; under `recompute`, `rows` of the own run came from the prefix cache.
    pub(crate) fn count_reused(&mut self, encodes: impl Fn(FragmentId) -> bool) {
        let counts = &mut self.counts;
        if self.repair.is_none() {
            let placed = counts.root..self.tail_at;
            counts.reused = self.rows.clamp(placed.start, placed.end) - placed.start;
            counts.recomputed = placed.len() - counts.reused;
            counts.prefix_reused = self.rows - counts.reused;
            return;
        }
        let has_root = self.root.as_ref().is_some_and(|root| !encodes(root.id));
        counts.prefix_reused = self.rows + if has_root { counts.root } else { 0 };
        for (i, placement) in self.placements.iter().enumerate() {
            // A fragment that stands twice is encoded once.
            let again = self.placements[..i].iter().any(|before| before.id == placement.id);
            let encoded = encodes(placement.id) && !again;
            self.encoded.push(encoded);
            if encoded {
                counts.encoded += placement.tokens.len();
            } else {
                counts.reused += placement.tokens.len();
            }
        }
    }

    /// Accounts for what is swapped in before anything was computed: it is cached.
    pub(crate) fn recount_reused(&mut self, before: &Request, Swap { range, with, .. }: &Swap) {
        let gone = &before.composition.placements[range.clone()];
        for (placement, encoded) in gone.iter().zip(&self.encoded[range.clone()]) {
            let counts = &mut self.counts;
            let counted = if *encoded { &mut counts.encoded } else { &mut counts.reused };
            *counted -= placement.tokens.len();
        }
        self.encoded.splice(range.clone(), with.iter().map(|_| false));
        self.counts.reused += with.iter().map(|tokens| tokens.len()).sum::<usize>();
    }

    /// What was to come from a tier is encoded after all.
    pub(crate) fn count_lost(&mut self, id: FragmentId) {
        let first = self.placements.iter().position(|placement| placement.id == id);
        let Some(first) = first.filter(|_| self.swaps == 0) else { return };
        if self.encoded.get(first) == Some(&false) {
            self.encoded[first] = true;
            let tokens = self.placements[first].tokens.len();
            self.counts.reused -= tokens;
            self.counts.encoded += tokens;
        }
    }

    /// See [`Summary::recomputed_share`].
    fn recomputed_share(&self) -> f64 {
        let placements = &self.request.composition.placements;
        let placed: usize = placements.iter().map(|placement| placement.tokens.len()).sum();
        match &self.repair {
            _ if placed == 0 => 0.0,
            None => 1.0,
            Some(repair) => {
                let row_layers = repair.row_layers(self.tail_rows(), self.layers);
                row_layers as f64 / (placed * self.layers) as f64
            }
        }
    }

    /// Rows of the placements that are computed again.
    fn selected(&self) -> Arc<[u32]> {
        let selected = self.repair.as_ref().and_then(|repair| repair.selected.clone());
        selected.unwrap_or_else(|| Arc::from([]))
    }

    /// Accounts for the rows that were computed again: they are not reused, nor shown as encoded.
    fn count_recomputed(&mut self) {
        let selected = self.selected();
        let Some(repair) = self.repair.as_ref().filter(|_| !self.encoded.is_empty()) else {
            return;
        };
        for (range, encoded) in repair.places.ranges().zip(&self.encoded) {
            let inside = selected.iter().filter(|&&row| range.contains(&(row as usize))).count();
            self.counts.recomputed += inside;
            *(if *encoded { &mut self.counts.encoded } else { &mut self.counts.reused }) -= inside;
        }
    }

    /// Tells the tail's scores once they are all there. `false` when the reader is gone.
    pub(crate) fn tell_scores(&mut self, next_top: Vec<(TokenId, f32)>) -> bool {
        if self.scores_told {
            return true;
        }
        assert_eq!(self.scores.len() + 1, self.counts.tail, "all tail tokens but the first");
        self.scores_told = true;
        self.stream.send(Event::Scored { tail: std::mem::take(&mut self.scores), next_top })
    }

    /// Takes the next token of the answer and tells it, unless it is a stop token.
    pub(crate) fn take_token(
        &mut self,
        token: TokenId,
        logprob: Option<TokenLogprob>,
        time: Duration,
    ) -> Taken {
        self.times.first_token.get_or_insert(time);
        if self.request.stop_tokens.contains(&token) {
            return Taken { heard: true, generated: false, end: Some(FinishReason::Stop) };
        }
        self.times.last_token = time;
        self.own.push(token);
        let text = self.text.push(token);
        let heard = self.stream.send(Event::Token { token, text, logprob });
        let stop = self.text.stopped().then_some(FinishReason::Stop);
        Taken { heard, generated: true, end: stop.or_else(|| self.limit_reached()) }
    }

    /// Tells the reader the end, and what tail and answer became.
    pub(crate) fn finish(&mut self, finish_reason: FinishReason, sealed: Option<FragmentId>) {
        let text = self.text.finish();
        self.count_recomputed();
        self.counts.output = self.output().len();
        let summary = Summary {
            finish_reason,
            policy: self.request.policy,
            exact: self.is_exact(),
            counts: self.counts,
            recomputed_share: self.recomputed_share(),
            selected: self.selected(),
            sealed,
            timings: self.times.timings(self.counts.output),
        };
        self.stream.end(Event::Finished { text, summary });
    }
}

/// Where each placement of a composition begins.
fn starts(request: &Request, placements: &[Content]) -> Vec<u32> {
    let is_sequential = request.policy.layout() == Layout::Sequential;
    let mut start = request.composition.root.len() as u32;
    let begin = |placement: &Content| {
        let at = start;
        start += if is_sequential { placement.tokens.len() as u32 } else { 0 };
        at
    };
    placements.iter().map(begin).collect()
}

/// Tokens put behind an answer to seal it.
pub(crate) fn closing_len(request: &Request) -> usize {
    request.seal.as_ref().map_or(0, |seal| seal.closing.len())
}

/// What came of a sampled token.
pub(crate) struct Taken {
    /// The reader is still there.
    pub(crate) heard: bool,
    /// It is part of the answer.
    pub(crate) generated: bool,
    /// It ended the answer.
    pub(crate) end: Option<FinishReason>,
}

impl Times {
    /// Durations in milliseconds; what did not happen took none.
    fn timings(&self, output: usize) -> Timings {
        let between = |from: Option<Duration>, to: Option<Duration>| match (from, to) {
            (Some(from), Some(to)) => to.saturating_sub(from).as_secs_f64() * 1e3,
            _ => 0.0,
        };
        let decode_ms = between(self.first_token, Some(self.last_token));
        let decode_tokens_per_second =
            if decode_ms > 0.0 { output.saturating_sub(1) as f64 * 1e3 / decode_ms } else { 0.0 };
        Timings {
            queue_ms: between(Some(self.submitted), self.admitted),
            compose_ms: between(self.admitted, self.composed),
            join_ms: self.join.unwrap_or_default().as_secs_f64() * 1e3,
            repair_ms: between(self.composed, self.repaired),
            prefill_ms: between(self.repaired, self.prefilled),
            first_token_ms: between(Some(self.submitted), self.first_token),
            decode_tokens_per_second,
        }
    }
}

/// The way to a generation's reader. Dropped before its end, it tells the reader that the engine
/// is down: no generation ends without a word, whatever becomes of the loop.
#[derive(Default)]
pub(crate) struct Stream {
    sink: Option<Sink>,
}

impl Stream {
    pub(crate) fn new(sink: Sink) -> Self {
        Self { sink: Some(sink) }
    }

    /// `false` when the reader is gone.
    pub(crate) fn send(&mut self, event: Event) -> bool {
        self.sink.as_mut().is_some_and(|sink| sink(event))
    }

    /// Sends the last event.
    pub(crate) fn end(&mut self, event: Event) {
        if let Some(mut sink) = self.sink.take() {
            sink(event);
        }
    }

    /// Says nothing when dropped: the caller was told in another way.
    pub(crate) fn silence(&mut self) {
        self.sink = None;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end(Event::Failed(RequestError::EngineDown("its loop ended".into())));
    }
}

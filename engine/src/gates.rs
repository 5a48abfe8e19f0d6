//! The gates of invariant 4: checks that a loaded model joins correctly, run on the model itself.
//!
//! They drive a [`Model`] directly, on pages of its pool that nobody uses yet: run them before
//! an engine takes the model. `cento doctor` prints them, the tests run them on every
//! architecture. Wrong keys, offsets or masks show here before a user sees a wrong answer.

mod calibrate;
mod measure;
mod repair;

pub use calibrate::{Calibration, calibrate};
pub use measure::{Bound, Promise};

use crate::JoinPolicy;
use kernels::{PageId, RowAddr, Run, Span, Tempered};
use measure::bits;
use models::{Batch, Model, TokenId};

/// What one gate found.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// Short name.
    pub name: &'static str,
    /// What was compared with what.
    pub meaning: &'static str,
    /// By the measure of the bound; infinite when bytes that must be equal differ.
    pub error: f32,
    /// The largest allowed; 0 asks for the same bits.
    pub limit: f32,
}

impl Gate {
    /// The gate holds.
    pub fn is_open(&self) -> bool {
        self.error <= self.limit
    }
}

/// The tokens the gates work on; every part at least one token.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Encoded first.
    pub root: Vec<TokenId>,
    /// Three fragments.
    pub fragments: [Vec<TokenId>; 3],
    /// Forwarded last.
    pub tail: Vec<TokenId>,
}

/// Runs every gate on a model that promises the same bits in every batch.
///
/// # Panics
/// When the pool is too small for the sample, three times over.
pub fn run(model: &mut dyn Model, sample: &Sample, bound: Bound) -> Vec<Gate> {
    run_by(model, sample, bound, Promise::Bits)
}

/// Runs every gate by what the model promises.
///
/// # Panics
/// As [`run`].
pub fn run_by(model: &mut dyn Model, sample: &Sample, bound: Bound, promise: Promise) -> Vec<Gate> {
    let (Bound::Largest(tolerance) | Bound::Divergence(tolerance)) = bound;
    let between_batches = if promise == Promise::Bits { 0.0 } else { tolerance };
    let gate = |name, meaning, error, limit| Gate { name, meaning, error, limit };
    vec![
        gate(
            "chunks",
            "prefill in chunks = prefill at once",
            chunks(model, sample, (bound, promise)),
            between_batches,
        ),
        gate(
            "batch",
            "a row in a batch = the row alone",
            batch(model, sample, (bound, promise)),
            between_batches,
        ),
        gate(
            "recompute",
            "recompute over joined runs = plain prefill",
            recompute(model, sample, bound),
            tolerance,
        ),
        gate(
            "single",
            "one fragment under reuse = recompute",
            single(model, sample, bound),
            tolerance,
        ),
        gate(
            "moved",
            "a moved fragment = the fragment encoded there",
            moved(model, sample, bound),
            tolerance,
        ),
        gate("dropped", "a dropped fragment leaves no trace", dropped(model, sample), 0.0),
        gate(
            "boundary",
            "boundary of all rows = plain prefill",
            repair::whole(model, sample, bound, JoinPolicy::Boundary { tokens: u32::MAX as usize }),
            tolerance,
        ),
        gate(
            "query",
            "query of all rows = plain prefill",
            repair::whole(model, sample, bound, JoinPolicy::Query { ratio: 1.0 }),
            tolerance,
        ),
        gate(
            "deviation",
            "deviation of all rows = plain prefill",
            repair::whole(model, sample, bound, JoinPolicy::Deviation { ratio: 1.0 }),
            tolerance,
        ),
        gate(
            "overlay",
            "a repair in chunks = at once; no page changes",
            repair::overlay(model, sample, (bound, promise)),
            between_batches,
        ),
    ]
}

/// Rows written for a gate: pages taken in order, never given back.
struct Desk<'m> {
    model: &'m mut dyn Model,
    pages_used: u32,
}

/// A run under construction.
#[derive(Clone)]
struct Written {
    pages: Vec<PageId>,
    rows: u32,
    start: u32,
    shift: i32,
}

impl Written {
    fn run(&self) -> Run<'_> {
        Run::new(&self.pages, self.rows, self.start, self.shift)
    }

    fn end(&self) -> u32 {
        self.start + self.rows
    }

    /// The same rows standing at `start`.
    fn placed(&self, start: u32) -> Self {
        let shift = self.shift + start as i32 - self.start as i32;
        Self { start, shift, ..self.clone() }
    }
}

impl<'m> Desk<'m> {
    fn new(model: &'m mut dyn Model) -> Self {
        Self { model, pages_used: 0 }
    }

    /// Skips pages, so that the same rows come to lie elsewhere.
    fn skip_page(&mut self) {
        self.pages_used += 1;
    }

    fn blank(&mut self, rows: usize, start: u32) -> Written {
        let shape = self.model.shape();
        let count = rows.div_ceil(shape.page_rows) as u32;
        assert!((self.pages_used + count) as usize <= shape.pages, "the pool is too small");
        let pages = (self.pages_used..self.pages_used + count).map(PageId).collect();
        self.pages_used += count;
        Written { pages, rows: 0, start, shift: 0 }
    }

    /// Forwards `tokens` from position `start` after `before`, `chunk` rows at a time; returns
    /// the run and the log-probabilities `[rows, vocab]`.
    fn write(
        &mut self,
        tokens: &[TokenId],
        start: u32,
        before: &[&Written],
        chunk: usize,
    ) -> (Written, Vec<f32>) {
        let before: Vec<_> = before.iter().map(|written| written.run()).collect();
        self.write_after(tokens, start, &before, chunk)
    }

    /// The same after runs as they are.
    fn write_after(
        &mut self,
        tokens: &[TokenId],
        start: u32,
        before: &[Run<'_>],
        chunk: usize,
    ) -> (Written, Vec<f32>) {
        self.write_tempered(tokens, start, (before, None), chunk)
    }

    /// The same where the first of these runs are tempered.
    fn write_tempered(
        &mut self,
        tokens: &[TokenId],
        start: u32,
        (before, tempered): (&[Run<'_>], Option<Tempered>),
        chunk: usize,
    ) -> (Written, Vec<f32>) {
        let mut own = self.blank(tokens.len(), start);
        let mut all = Vec::new();
        // Every row is asked for its logits.
        let chunk = chunk.min(self.model.shape().logits_rows_max);
        for part in tokens.chunks(chunk) {
            let first = own.rows;
            own.rows += part.len() as u32;
            let writes: Vec<_> = (first..own.rows).map(|row| self.address(&own, row)).collect();
            let positions: Vec<_> = (first..own.rows).map(|r| start + r).collect();
            let mut runs = before.to_vec();
            runs.push(own.run());
            let spans = [Span { tempered, ..Span::new(0..part.len(), &runs) }];
            let rows: Vec<_> = (0..part.len()).collect();
            self.forward(&Batch {
                tokens: part,
                positions: &positions,
                writes: &writes,
                spans: &spans,
                logits_rows: &rows,
            })
            .into_iter()
            .for_each(|p| all.push(p));
        }
        (own, all)
    }

    /// Computes the rows at `selected` positions of `tokens` again over `runs`, `chunk` rows at a
    /// time.
    fn repair(
        &mut self,
        tokens: &[TokenId],
        selected: &[u32],
        runs: &[Run<'_>],
        chunk: usize,
    ) -> Written {
        let mut own = self.blank(selected.len(), 0);
        for positions in selected.chunks(chunk) {
            let first = own.rows;
            own.rows += positions.len() as u32;
            let writes: Vec<_> = (first..own.rows).map(|row| self.address(&own, row)).collect();
            let tokens: Vec<_> = positions.iter().map(|&row| tokens[row as usize]).collect();
            let all = Some(selected);
            let mut runs = runs.to_vec();
            runs.push(Run { positions: all, ..Run::new(&own.pages, own.rows, 0, 0) });
            let spans = [Span::new(0..tokens.len(), &runs)];
            let (tokens, logits_rows) = (&tokens, &[]);
            self.forward(&Batch { tokens, positions, writes: &writes, spans: &spans, logits_rows });
        }
        own
    }

    /// Where row `row` of a run lies.
    fn address(&self, written: &Written, row: u32) -> RowAddr {
        let page_rows = self.model.shape().page_rows as u32;
        RowAddr { page: written.pages[(row / page_rows) as usize], row: row % page_rows }
    }

    /// Log-probabilities of a batch.
    fn forward(&mut self, batch: &Batch<'_>) -> Vec<f32> {
        let mut logits = Vec::new();
        self.model.forward(batch, &mut logits);
        let vocab = self.model.shape().vocab;
        logits.chunks_mut(vocab).for_each(to_log_probabilities);
        logits
    }

    fn digest(&self, written: &Written) -> [u8; 32] {
        self.model.digest(&written.pages, written.rows as usize)
    }
}

/// Everything a sample holds, one after another.
fn concatenation(sample: &Sample) -> Vec<TokenId> {
    let parts = [&sample.root, &sample.fragments[0], &sample.fragments[1], &sample.fragments[2]];
    parts.into_iter().chain([&sample.tail]).flatten().copied().collect()
}

fn chunks(model: &mut dyn Model, sample: &Sample, (bound, promise): (Bound, Promise)) -> f32 {
    let tokens = concatenation(sample);
    let vocab = model.shape().vocab;
    let (whole, want) = Desk::new(model).write(&tokens, 0, &[], usize::MAX);
    let digest = model.digest(&whole.pages, whole.rows as usize);
    let mut error = 0.0_f32;
    for chunk in [1, 3, 7] {
        let mut desk = Desk::new(model);
        let (cut, got) = desk.write(&tokens, 0, &[], chunk);
        error = error.max(promise.measure((vocab, bound), &want, &got));
        let same = promise == Promise::Rounding || desk.digest(&cut) == digest;
        error = error.max(if same { 0.0 } else { f32::INFINITY });
    }
    error
}

fn batch(model: &mut dyn Model, sample: &Sample, (bound, promise): (Bound, Promise)) -> f32 {
    let vocab = model.shape().vocab;
    let mut desk = Desk::new(model);
    let (root, _) = desk.write(&sample.root, 0, &[], usize::MAX);
    let alone: Vec<Vec<f32>> = sample
        .fragments
        .iter()
        .map(|tokens| desk.write(tokens, root.rows, &[&root], usize::MAX).1)
        .collect();
    let page_rows = desk.model.shape().page_rows as u32;
    let mut own = Vec::new();
    let (mut tokens, mut positions, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    for fragment in &sample.fragments {
        let mut written = desk.blank(fragment.len(), root.rows);
        written.rows = fragment.len() as u32;
        for r in 0..written.rows {
            positions.push(root.rows + r);
            let page = written.pages[(r / page_rows) as usize];
            writes.push(RowAddr { page, row: r % page_rows });
        }
        tokens.extend_from_slice(fragment);
        own.push(written);
    }
    let runs: Vec<_> = own.iter().map(|written| [root.run(), written.run()]).collect();
    let mut spans: Vec<Span<'_>> = Vec::new();
    for runs in &runs {
        let begin = spans.last().map_or(0, |span| span.rows.end);
        spans.push(Span::new(begin..begin + runs[1].rows as usize, runs));
    }
    let rows: Vec<_> = (0..tokens.len()).collect();
    let together = desk.forward(&Batch {
        tokens: &tokens,
        positions: &positions,
        writes: &writes,
        spans: &spans,
        logits_rows: &rows,
    });
    promise.measure((vocab, bound), &alone.concat(), &together)
}

fn recompute(model: &mut dyn Model, sample: &Sample, bound: Bound) -> f32 {
    let mut desk = Desk::new(model);
    let vocab = desk.model.shape().vocab;
    let (_, plain) = desk.write(&concatenation(sample), 0, &[], usize::MAX);
    // The same rows, each part in pages of its own, every part seeing all before it.
    let (mut before, mut joined) = (Vec::<Written>::new(), Vec::new());
    let [a, b, c] = &sample.fragments;
    for part in [&sample.root, a, b, c, &sample.tail] {
        let start = before.last().map_or(0, Written::end);
        let seen: Vec<_> = before.iter().collect();
        let (written, got) = desk.write(part, start, &seen, usize::MAX);
        before.push(written);
        joined.extend(got);
    }
    bound.measure(vocab, &plain, &joined)
}

fn single(model: &mut dyn Model, sample: &Sample, bound: Bound) -> f32 {
    let mut desk = Desk::new(model);
    let vocab = desk.model.shape().vocab;
    let fragment = &sample.fragments[0];
    let plain: Vec<_> =
        [&sample.root, fragment, &sample.tail].into_iter().flatten().copied().collect();
    let (_, plain) = desk.write(&plain, 0, &[], usize::MAX);
    let (root, _) = desk.write(&sample.root, 0, &[], usize::MAX);
    let (fragment, _) = desk.write(fragment, root.rows, &[&root], usize::MAX);
    let (_, tail) = desk.write(&sample.tail, fragment.end(), &[&root, &fragment], usize::MAX);
    bound.measure(vocab, &plain[plain.len() - sample.tail.len() * vocab..], &tail)
}

/// A score depends on the distance alone: a fragment and its tail, both further on by the same
/// offset, give the same tail. The fragment's keys stay where they were rotated.
fn moved(model: &mut dyn Model, sample: &Sample, bound: Bound) -> f32 {
    let mut desk = Desk::new(model);
    let vocab = desk.model.shape().vocab;
    let fragment = &sample.fragments[1];
    let (here, _) = desk.write(fragment, 0, &[], usize::MAX);
    let (_, want) = desk.write(&sample.tail, here.end(), &[&here], usize::MAX);
    let mut error = 0.0_f32;
    for offset in [1, 5, 64] {
        let there = here.placed(offset);
        let (_, got) = desk.write(&sample.tail, there.end(), &[&there], usize::MAX);
        let (encoded, _) = desk.write(fragment, offset, &[], usize::MAX);
        let (_, encoded) = desk.write(&sample.tail, encoded.end(), &[&encoded], usize::MAX);
        error = error.max(bound.measure(vocab, &want, &got));
        error = error.max(bound.measure(vocab, &encoded, &got));
    }
    error
}

fn dropped(model: &mut dyn Model, sample: &Sample) -> f32 {
    let [a, b, c] = &sample.fragments;
    let mut desk = Desk::new(model);
    let (root, _) = desk.write(&sample.root, 0, &[], usize::MAX);
    let encoded = [a, b, c].map(|tokens| desk.write(tokens, root.rows, &[&root], usize::MAX).0);
    let before = encoded.each_ref().map(|written| desk.digest(written));
    // Compose all three, answer, then drop the second.
    let all = sequential(&root, &[&encoded[0], &encoded[1], &encoded[2]]);
    let seen: Vec<_> = all.iter().collect();
    desk.write(&sample.tail, all[3].end(), &seen, usize::MAX);
    let kept = sequential(&root, &[&encoded[0], &encoded[2]]);
    let seen: Vec<_> = kept.iter().collect();
    let (_, after_drop) = desk.write(&sample.tail, kept[2].end(), &seen, usize::MAX);
    let after = encoded.each_ref().map(|written| desk.digest(written));

    // A model that never saw the second, on other pages.
    let mut desk = Desk::new(model);
    desk.skip_page();
    let (root, _) = desk.write(&sample.root, 0, &[], usize::MAX);
    let fresh = [a, c].map(|tokens| desk.write(tokens, root.rows, &[&root], usize::MAX).0);
    let digests = fresh.each_ref().map(|written| desk.digest(written));
    let runs = sequential(&root, &[&fresh[0], &fresh[1]]);
    let seen: Vec<_> = runs.iter().collect();
    let (_, never) = desk.write(&sample.tail, runs[2].end(), &seen, usize::MAX);

    let same_bytes = before == after && digests == [before[0], before[2]];
    if same_bytes { bits(&never, &after_drop) } else { f32::INFINITY }
}

/// The root, then fragments one after another.
fn sequential(root: &Written, fragments: &[&Written]) -> Vec<Written> {
    let mut runs = vec![root.clone()];
    for fragment in fragments {
        let start = runs.last().map_or(0, Written::end);
        runs.push(fragment.placed(start));
    }
    runs
}

/// In place, with the sum in f64.
fn to_log_probabilities(logits: &mut [f32]) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    let log_sum = (f64::from(max) + sum.ln()) as f32;
    for x in logits {
        *x -= log_sum;
    }
}

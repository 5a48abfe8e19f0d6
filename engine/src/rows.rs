//! The rows of a batch: from a plan to what the model is asked, span by span.
//!
//! Owns the arrays, which keep their memory between steps: a step of decoding allocates nothing.
//!
//! ```text
//!   positions   0          root           ...          start    start + rows.end
//!   runs        | root's run | fragment's run | ... | own run, its last rows written now |
//! ```

use crate::{
    FragmentId,
    plan::{Encode, Forward, Plan},
    sequence::Sequence,
    state::State,
};
use kernels::{PageId, RowAddr, Run, Span};
use models::{Batch, TokenId};
use std::ops::Range;

/// Arrays of a batch.
#[derive(Default)]
pub(crate) struct Rows {
    tokens: Vec<TokenId>,
    positions: Vec<u32>,
    writes: Vec<RowAddr>,
    logits_at: Vec<usize>,
    /// Pages of the sequences that grow by one, each with the new page behind its own.
    grown: Vec<PageId>,
    /// Rows and runs of each span.
    cuts: Vec<(Range<usize>, Range<usize>)>,
    /// Empty between steps: only their memory is kept.
    runs: Vec<Run<'static>>,
    spans: Vec<Span<'static>>,
}

impl Rows {
    /// Calls `forward` with every row of the plan.
    pub(crate) fn with_batch(
        &mut self,
        plan: &Plan,
        state: &State,
        forward: impl FnOnce(&Batch<'_>),
    ) {
        self.tokens.clear();
        self.positions.clear();
        self.writes.clear();
        self.logits_at.clear();
        self.cuts.clear();
        let grown = grow(std::mem::take(&mut self.grown), plan, state);
        let mut runs: Vec<Run<'_>> = std::mem::take(&mut self.runs);
        for encode in &plan.encodes {
            self.add_record(encode, state, &mut runs);
        }
        let mut grown_left = &grown[..];
        for forward in &plan.forwards {
            self.add_sequence(forward, state, &mut grown_left, &mut runs);
        }
        let mut spans: Vec<Span<'_>> = std::mem::take(&mut self.spans);
        let cuts = self.cuts.iter().cloned();
        spans.extend(cuts.map(|(rows, of_runs)| Span { rows, runs: &runs[of_runs] }));
        forward(&Batch {
            tokens: &self.tokens,
            positions: &self.positions,
            writes: &self.writes,
            spans: &spans,
            logits_rows: &self.logits_at,
        });
        self.spans = emptied(spans);
        self.runs = emptied(runs);
        self.grown = grown;
    }

    fn add_record<'a>(&mut self, encode: &Encode, state: &'a State, runs: &mut Vec<Run<'a>>) {
        let record = state.fragments.held(encode.id);
        let own = Own {
            start: record.content.root_tokens.len(),
            tokens: &record.content.tokens,
            pages: &record.pages,
            rows: encode.rows.clone(),
            logits: 0,
        };
        self.add(state, record.content.root.iter().copied(), &own, runs);
    }

    fn add_sequence<'a>(
        &mut self,
        forward: &Forward,
        state: &'a State,
        grown: &mut &'a [PageId],
        runs: &mut Vec<Run<'a>>,
    ) {
        let sequence = forwarded(forward, state);
        let pages = if forward.grow.is_some() {
            let (pages, others) = grown.split_at(sequence.pages.len() + 1);
            *grown = others;
            pages
        } else {
            &sequence.pages
        };
        let own = Own {
            start: sequence.own_start,
            tokens: &sequence.own,
            pages,
            rows: forward.rows.clone(),
            logits: forward.logits,
        };
        let records = sequence.root.iter().chain(&sequence.placements);
        self.add(state, records.map(|content| content.id), &own, runs);
    }

    /// One span: the rows of `own`, which look at the runs of `records` and at those before them
    /// in their own run.
    ///
    /// A fragment was encoded right after its root: its shift is how far it stands from there. Root
    /// and own run stand where they were computed.
    fn add<'a>(
        &mut self,
        state: &'a State,
        records: impl Iterator<Item = FragmentId>,
        own: &Own<'a>,
        runs: &mut Vec<Run<'a>>,
    ) {
        let (first_row, first_run) = (self.tokens.len(), runs.len());
        let mut start = 0;
        for id in records {
            let record = state.fragments.held(id);
            assert!(record.is_cached(), "{id} is joined but not whole");
            let rows = record.encoded;
            let shift = start as i32 - record.content.root_tokens.len() as i32;
            runs.push(Run { pages: &record.pages, rows: rows as u32, start: start as u32, shift });
            start += rows;
        }
        assert_eq!(start, own.start, "the own run stands right behind the others");
        let rows = own.rows.end as u32;
        runs.push(Run { pages: own.pages, rows, start: start as u32, shift: 0 });

        let page_rows = state.shape.page_rows;
        self.tokens.extend_from_slice(&own.tokens[own.rows.clone()]);
        for row in own.rows.clone() {
            self.positions.push((own.start + row) as u32);
            let page = own.pages[row / page_rows];
            self.writes.push(RowAddr { page, row: (row % page_rows) as u32 });
        }
        let end = self.tokens.len();
        self.logits_at.extend(end - own.logits..end);
        self.cuts.push((first_row..end, first_run..runs.len()));
    }
}

/// The run that a span writes.
struct Own<'a> {
    /// Composed position of its row 0.
    start: usize,
    tokens: &'a [TokenId],
    pages: &'a [PageId],
    /// Its rows in this batch.
    rows: Range<usize>,
    /// Of these, how many at the end want logits.
    logits: usize,
}

fn forwarded<'a>(forward: &Forward, state: &'a State) -> &'a Sequence {
    state.running[&forward.id].sequence().expect("sequences are forwarded")
}

/// Fills `grown` with the pages of every sequence that grows, in the plan's order.
fn grow(mut grown: Vec<PageId>, plan: &Plan, state: &State) -> Vec<PageId> {
    grown.clear();
    for forward in &plan.forwards {
        if let Some(page) = forward.grow {
            let pages = &forwarded(forward, state).pages;
            // As many as it may ever have: no later step asks for more.
            grown.reserve(pages.capacity() + 1);
            grown.extend_from_slice(pages);
            grown.push(page);
        }
    }
    grown
}

/// The memory of `vec`, empty, for elements of another lifetime: collecting what came of a vector
/// of elements of one size uses its memory again.
fn emptied<A, B>(mut vec: Vec<A>) -> Vec<B> {
    vec.clear();
    vec.into_iter().map(|_| unreachable!("it was emptied")).collect()
}

//! The runner: the only caller of the model. Turns a plan into one batch, and logits into tokens.

use crate::{
    Clock, TokenLogprob,
    plan::{Encode, Forward, Plan},
    sampling::Sampler,
    sequence::Sequence,
    state::State,
};
use kernels::{PageId, RowAddr, Run, Span};
use models::{Batch, Model, ModelShape, TokenId};
use std::{ops::Range, sync::Arc, time::Duration};

/// Holds the model, and memory that is used again in every step.
pub(crate) struct Runner {
    model: Box<dyn Model>,
    clock: Arc<dyn Clock>,
    sampler: Sampler,
    tokens: Vec<TokenId>,
    positions: Vec<u32>,
    writes: Vec<RowAddr>,
    logits_rows: Vec<usize>,
    logits: Vec<f32>,
}

/// What a run gave, in the plan's order.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) forwards: Vec<Forwarded>,
    /// Building the table took this long.
    pub(crate) join: Duration,
}

/// What forwarding a sequence's rows gave.
#[derive(Default)]
pub(crate) struct Forwarded {
    /// Scores of tail tokens, each from the logits of the row before it.
    pub(crate) scores: Vec<TokenLogprob>,
    /// Alternatives after the tail's last row, when scores are wanted.
    pub(crate) next_top: Vec<(TokenId, f32)>,
    /// The next token of the answer.
    pub(crate) next: Option<(TokenId, Option<TokenLogprob>)>,
}

impl Runner {
    pub(crate) fn new(model: Box<dyn Model>, clock: Arc<dyn Clock>) -> Self {
        Self {
            model,
            clock,
            sampler: Sampler::default(),
            tokens: Vec::new(),
            positions: Vec::new(),
            writes: Vec::new(),
            logits_rows: Vec::new(),
            logits: Vec::new(),
        }
    }

    pub(crate) fn shape(&self) -> &ModelShape {
        self.model.shape()
    }

    pub(crate) fn digest(&self, pages: &[PageId], rows: usize) -> [u8; 32] {
        self.model.digest(pages, rows)
    }

    /// Forwards every row of the plan in one batch. Changes no book: a plan whose run fails
    /// leaves nothing to undo.
    pub(crate) fn run(&mut self, plan: &Plan, state: &State) -> Outcome {
        if plan.encodes.is_empty() && plan.forwards.is_empty() {
            return Outcome::default();
        }
        let started = self.clock.now();
        let tables: Vec<Table> = plan
            .encodes
            .iter()
            .map(|encode| Table::of_record(encode, state))
            .chain(plan.forwards.iter().map(|forward| Table::of_sequence(forward, state)))
            .collect();
        let runs: Vec<Vec<Run<'_>>> = tables.iter().map(Table::runs).collect();
        let spans = self.fill(&tables, &runs, state.shape.page_rows);
        let join = self.clock.now().saturating_sub(started);
        let batch = Batch {
            tokens: &self.tokens,
            positions: &self.positions,
            writes: &self.writes,
            spans: &spans,
            logits_rows: &self.logits_rows,
        };
        self.model.forward(&batch, &mut self.logits);
        let vocab = state.shape.vocab;
        assert_eq!(self.logits.len(), self.logits_rows.len() * vocab, "logits of every asked row");
        let mut logits = self.logits.chunks_exact_mut(vocab);
        let sampler = &mut self.sampler;
        let read = |forward: &Forward| {
            let sequence = state.running[&forward.id].sequence().expect("sequences are forwarded");
            let mut rows = forward.rows.end - forward.logits..forward.rows.end;
            let mut forwarded = Forwarded::default();
            rows.try_for_each(|row| {
                sampler.read(sequence, row, logits.next()?, &mut forwarded);
                Some(())
            })
            .expect("logits were counted");
            forwarded
        };
        Outcome { forwards: plan.forwards.iter().map(read).collect(), join }
    }

    /// Fills the batch's rows, one span for each table.
    fn fill<'a>(
        &mut self,
        tables: &[Table<'_>],
        runs: &'a [Vec<Run<'a>>],
        page_rows: usize,
    ) -> Vec<Span<'a>> {
        self.tokens.clear();
        self.positions.clear();
        self.writes.clear();
        self.logits_rows.clear();
        let mut spans = Vec::with_capacity(tables.len());
        for (table, runs) in tables.iter().zip(runs) {
            let first = self.tokens.len();
            self.tokens.extend_from_slice(&table.tokens[table.rows.clone()]);
            for row in table.rows.clone() {
                self.positions.push((table.start + row) as u32);
                let page = table.page(row / page_rows);
                self.writes.push(RowAddr { page, row: (row % page_rows) as u32 });
            }
            let end = self.tokens.len();
            self.logits_rows.extend(end - table.logits..end);
            spans.push(Span { rows: first..end, runs });
        }
        spans
    }
}

/// What one span of the batch writes and looks at.
///
/// ```text
///   positions   0          root           ...          start    start + rows.end
///   runs        | root's run | fragment's run | ... | own run, its last rows written now |
/// ```
struct Table<'a> {
    /// The runs of records before the own run: pages, rows.
    before: Vec<(&'a [PageId], usize)>,
    /// Composed position of own row 0.
    start: usize,
    tokens: &'a [TokenId],
    pages: &'a [PageId],
    /// With the page it grows by, where it does.
    grown: Option<Vec<PageId>>,
    /// Own rows in this batch.
    rows: Range<usize>,
    logits: usize,
}

impl<'a> Table<'a> {
    fn of_record(encode: &Encode, state: &'a State) -> Self {
        let record = state.fragments.held(encode.id);
        let root = record.content.root.map(|root| state.fragments.held(root));
        Self {
            before: root.iter().map(|root| (&root.pages[..], root.encoded)).collect(),
            start: record.content.root_tokens.len(),
            tokens: &record.content.tokens,
            pages: &record.pages,
            grown: None,
            rows: encode.rows.clone(),
            logits: 0,
        }
    }

    fn of_sequence(forward: &Forward, state: &'a State) -> Self {
        let sequence: &Sequence =
            state.running[&forward.id].sequence().expect("sequences are forwarded");
        let records = sequence.root.iter().chain(&sequence.placements);
        let run = |id| {
            let record = state.fragments.held(id);
            assert!(record.is_cached(), "{id} is joined but not whole");
            (&record.pages[..], record.encoded)
        };
        Self {
            before: records.map(|content| run(content.id)).collect(),
            start: sequence.own_start,
            tokens: &sequence.own,
            pages: &sequence.pages,
            grown: forward.grow.map(|page| sequence.pages.iter().copied().chain([page]).collect()),
            rows: forward.rows.clone(),
            logits: forward.logits,
        }
    }

    fn pages(&self) -> &[PageId] {
        self.grown.as_deref().unwrap_or(self.pages)
    }

    fn page(&self, index: usize) -> PageId {
        self.pages()[index]
    }

    /// Every run in composition order. A fragment was encoded right after the root, whose run is
    /// the first: its shift is how far it stands from there. Root and own run stand where they
    /// were computed.
    fn runs(&self) -> Vec<Run<'_>> {
        let root_len = self.before.first().map_or(0, |&(_, rows)| rows);
        let mut start = 0;
        let mut runs = Vec::with_capacity(self.before.len() + 1);
        for &(pages, rows) in &self.before {
            let shift = if start == 0 { 0 } else { start as i32 - root_len as i32 };
            runs.push(Run { pages, rows: rows as u32, start: start as u32, shift });
            start += rows;
        }
        assert_eq!(start, self.start, "the own run stands right behind the others");
        let rows = self.rows.end as u32;
        runs.push(Run { pages: self.pages(), rows, start: start as u32, shift: 0 });
        runs
    }
}

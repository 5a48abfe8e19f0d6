//! The rows of a batch: from a plan to what the model is asked, span by span.
//!
//! Owns the arrays, which keep their memory between steps: a step of decoding allocates nothing.
//!
//! ```text
//!   positions   0          root           ...          start    start + rows.end
//!   runs        | root's run | fragment's run | ... | own run, its last rows written now |
//!                                  ^ rows hidden here stand in the overlay's run
//! ```

use crate::{
    FragmentId, SequenceId,
    fragments::Record,
    overlays::Overlay,
    plan::{Encode, Forward, Plan, Probe, Repairing},
    policy::Scores,
    sequence::Sequence,
    state::State,
};
use kernels::{PageId, RowAddr, Run, Span, Tempered};
use models::{Batch, TokenId, emptied};
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
    /// Rows and runs of each span, and how its runs are weighed.
    cuts: Vec<(Range<usize>, Range<usize>, Option<Tempered>)>,
    /// Empty between steps: only their memory is kept.
    runs: Vec<Run<'static>>,
    spans: Vec<Span<'static>>,
}

impl Rows {
    /// Calls `forward` with every row of the plan that is forwarded together.
    pub(crate) fn with_batch(
        &mut self,
        plan: &Plan,
        state: &State,
        forward: impl FnOnce(&Batch<'_>),
    ) {
        let grown = grow(std::mem::take(&mut self.grown), plan, state);
        let mut runs: Vec<Run<'_>> = std::mem::take(&mut self.runs);
        for encode in &plan.encodes {
            self.add_record(encode, state, &mut runs);
        }
        for repairing in &plan.repairs {
            self.add_overlay(repairing, state, &mut runs);
        }
        let mut grown_left = &grown[..];
        for forward in &plan.forwards {
            self.add_sequence(forward, state, &mut grown_left, &mut runs);
        }
        self.runs = self.hand_over(runs, forward);
        self.grown = grown;
    }

    /// Calls `forward` with the rows of one probe.
    pub(crate) fn with_probe(
        &mut self,
        probe: &Probe,
        state: &State,
        forward: impl FnOnce(&Batch<'_>),
    ) {
        let mut runs: Vec<Run<'_>> = std::mem::take(&mut self.runs);
        match probe.by {
            Scores::Tail(_) => self.add_tail(probe, state, &mut runs),
            Scores::Deviation => self.add_placed(probe, state, &mut runs),
        }
        self.runs = self.hand_over(runs, forward);
    }

    /// Calls `forward` with what was added, and forgets it. Returns the memory of `runs`.
    fn hand_over(
        &mut self,
        runs: Vec<Run<'_>>,
        forward: impl FnOnce(&Batch<'_>),
    ) -> Vec<Run<'static>> {
        let mut spans: Vec<Span<'_>> = std::mem::take(&mut self.spans);
        let cuts = self.cuts.iter().cloned();
        spans.extend(
            cuts.map(|(rows, of_runs, tempered)| Span {
                tempered,
                ..Span::new(rows, &runs[of_runs])
            }),
        );
        forward(&Batch {
            tokens: &self.tokens,
            positions: &self.positions,
            writes: &self.writes,
            spans: &spans,
            logits_rows: &self.logits_at,
        });
        self.spans = emptied(spans);
        self.tokens.clear();
        self.positions.clear();
        self.writes.clear();
        self.logits_at.clear();
        self.cuts.clear();
        emptied(runs)
    }

    /// Rows of a record, which look at its root and at those before them.
    fn add_record<'a>(&mut self, encode: &Encode, state: &'a State, runs: &mut Vec<Run<'a>>) {
        let record = state.fragments.held(encode.id);
        let first_run = runs.len();
        if let Some(root) = record.content.root {
            let root = held(state, root);
            runs.push(Run::new(&root.pages, root.encoded as u32, 0, 0));
        }
        let start = record.content.root_tokens.len();
        let rows = encode.rows.clone();
        runs.push(Run::new(&record.pages, rows.end as u32, start as u32, 0));
        self.add_rows(&record.content.tokens[rows.clone()], start + rows.start);
        self.write_to(&record.pages, rows.clone(), state);
        self.cut(rows.len(), first_run..runs.len(), None);
    }

    /// Rows of an overlay, which look at what the composition shows: rows that stand before them,
    /// computed again or not.
    fn add_overlay<'a>(&mut self, repair: &Repairing, state: &'a State, runs: &mut Vec<Run<'a>>) {
        let overlay = state.overlays.held(repair.id);
        let sequence = running(repair.sequence, state);
        let (first_run, rows) = (runs.len(), repair.rows.clone());
        push_joined(sequence, state, Some((overlay, rows.end)), runs);
        self.tokens.extend_from_slice(&overlay.tokens[rows.clone()]);
        self.positions.extend_from_slice(&overlay.positions()[rows.clone()]);
        self.write_to(&overlay.pages, rows.clone(), state);
        self.cut(rows.len(), first_run..runs.len(), None);
    }

    fn add_sequence<'a>(
        &mut self,
        forward: &Forward,
        state: &'a State,
        grown: &mut &'a [PageId],
        runs: &mut Vec<Run<'a>>,
    ) {
        let sequence = running(forward.id, state);
        let pages = if forward.grow.is_some() {
            let (pages, others) = grown.split_at(sequence.pages.len() + 1);
            *grown = others;
            pages
        } else {
            &sequence.pages
        };
        let overlay = sequence.repair.as_ref().and_then(|repair| repair.overlay);
        let overlay = overlay.map(|id| state.overlays.held(id));
        let first_run = runs.len();
        push_joined(sequence, state, overlay.map(|overlay| (overlay, overlay.rows)), runs);
        self.add_own(sequence, forward.rows.clone(), pages, state);
        runs.push(own_run(sequence, forward.rows.end, pages));
        let tempered = sequence.request.policy.layout().tempered(sequence.placements.len());
        self.cut(forward.rows.len(), first_run..runs.len(), tempered);
        let end = self.tokens.len();
        self.logits_at.extend(end - forward.logits..end);
    }

    /// Rows of a tail over the placements as they are cached.
    fn add_tail<'a>(&mut self, probe: &Probe, state: &'a State, runs: &mut Vec<Run<'a>>) {
        let sequence = running(probe.id, state);
        push_joined(sequence, state, None, runs);
        self.add_own(sequence, probe.rows.clone(), &sequence.pages, state);
        runs.push(own_run(sequence, probe.rows.end, &sequence.pages));
        self.cut(probe.rows.len(), 0..runs.len(), None);
        self.logits_at.extend(probe.logits.then(|| self.tokens.len() - 1));
    }

    /// Rows of placements as they are cached, where they stand in the composition; their K and V
    /// are named and not written.
    fn add_placed<'a>(&mut self, probe: &Probe, state: &'a State, runs: &mut Vec<Run<'a>>) {
        let sequence = running(probe.id, state);
        push_joined(sequence, state, None, runs);
        let root = sequence.root.as_ref().map_or(0, |root| root.tokens.len());
        let mut before = 0;
        for placement in &sequence.placements {
            let end = before + placement.tokens.len();
            let clamp = |row: usize| row.clamp(before, end) - before;
            let rows = clamp(probe.rows.start)..clamp(probe.rows.end);
            self.add_rows(&placement.tokens[rows.clone()], root + before + rows.start);
            self.write_to(&held(state, placement.id).pages, rows, state);
            before = end;
        }
        self.cut(probe.rows.len(), 0..runs.len(), None);
    }

    /// Rows of a sequence's own run, written to its `pages`.
    fn add_own(
        &mut self,
        sequence: &Sequence,
        rows: Range<usize>,
        pages: &[PageId],
        state: &State,
    ) {
        self.add_rows(&sequence.own[rows.clone()], sequence.own_start + rows.start);
        self.write_to(pages, rows, state);
    }

    /// Tokens side by side.
    fn add_rows(&mut self, tokens: &[TokenId], start: usize) {
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((start..start + tokens.len()).map(|position| position as u32));
    }

    fn write_to(&mut self, pages: &[PageId], rows: Range<usize>, state: &State) {
        let page_rows = state.shape.page_rows;
        let address =
            |row: usize| RowAddr { page: pages[row / page_rows], row: (row % page_rows) as u32 };
        self.writes.extend(rows.map(address));
    }

    /// The last `rows` rows are a span.
    fn cut(&mut self, rows: usize, runs: Range<usize>, tempered: Option<Tempered>) {
        let end = self.tokens.len();
        self.cuts.push((end - rows..end, runs, tempered));
    }
}

/// The runs before a sequence's own: its root and its placements, and where rows were computed
/// again an overlay, with so many rows of it, over rows that are hidden.
///
/// A clean fragment was encoded right after the root: its shift is how far it stands from there; a
/// sealed one says where it stood. The root and rows computed again stand where they were computed.
/// Runs that are weighed apart come first.
fn push_joined<'a>(
    sequence: &'a Sequence,
    state: &'a State,
    overlay: Option<(&'a Overlay, usize)>,
    runs: &mut Vec<Run<'a>>,
) {
    let first = runs.len();
    let root_rows = sequence.root.as_ref().map_or(0, |root| root.tokens.len()) as u32;
    if let Some(root) = &sequence.root {
        runs.push(Run::new(&held(state, root.id).pages, root_rows, 0, 0));
    }
    for (i, placement) in sequence.placements.iter().enumerate() {
        let (pages, rows) = (&held(state, placement.id).pages, placement.tokens.len() as u32);
        let hidden = overlay.and_then(|(overlay, _)| overlay.hidden[i].as_ref());
        let from = placement.sealed.as_ref().map_or(root_rows, |sealed| sealed.start);
        let start = sequence.starts[i];
        runs.push(Run { hidden, ..Run::new(pages, rows, start, start as i32 - from as i32) });
    }
    if !sequence.is_sequential() {
        runs[first..].rotate_left(1);
    }
    if let Some((overlay, rows)) = overlay {
        let positions = Some(overlay.positions());
        runs.push(Run { positions, ..Run::new(&overlay.pages, rows as u32, 0, 0) });
    }
}

/// The first `rows` rows of a sequence's own run.
fn own_run<'a>(sequence: &Sequence, rows: usize, pages: &'a [PageId]) -> Run<'a> {
    Run::new(pages, rows as u32, sequence.own_start as u32, 0)
}

/// A record that is looked at.
fn held(state: &State, id: FragmentId) -> &Record {
    let record = state.fragments.held(id);
    assert!(record.is_cached(), "{id} is joined but not whole");
    record
}

fn running(id: SequenceId, state: &State) -> &Sequence {
    state.running[&id].sequence().expect("sequences are forwarded")
}

/// Fills `grown` with the pages of every sequence that grows, in the plan's order.
fn grow(mut grown: Vec<PageId>, plan: &Plan, state: &State) -> Vec<PageId> {
    grown.clear();
    for forward in &plan.forwards {
        if let Some(page) = forward.grow {
            let pages = &running(forward.id, state).pages;
            // As many as it may ever have: no later step asks for more.
            grown.reserve(pages.capacity() + 1);
            grown.extend_from_slice(pages);
            grown.push(page);
        }
    }
    grown
}

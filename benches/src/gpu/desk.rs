//! A decoder on a GPU driven without an engine: pages handed out in order, and steps by the clock.

use kernels::{PageId, RowAddr, Run, Span};
use models::{Batch, GpuDecoder, Model as _, TokenId};
use std::time::Instant;

/// A decoder and the pages of it that are taken.
pub(super) struct Desk {
    pub(super) model: GpuDecoder,
    taken: usize,
    logits: Vec<f32>,
}

/// Rows at consecutive positions. What they hold need not have been computed: to read it takes as long.
#[derive(Clone)]
pub(super) struct Rows {
    pages: Vec<PageId>,
    pub(super) count: usize,
    pub(super) start: usize,
    /// Where the keys were rotated.
    encoded: usize,
}

impl Rows {
    /// The same rows elsewhere.
    pub(super) fn placed(&self, start: usize) -> Self {
        Self { start, ..self.clone() }
    }

    fn run(&self) -> Run<'_> {
        let shift = self.start as i32 - self.encoded as i32;
        Run::new(&self.pages, self.count as u32, self.start as u32, shift)
    }
}

/// A row of a batch that is decoded.
pub(super) struct Sequence {
    /// What it looks at, its own rows last.
    pub(super) seen: Vec<Rows>,
}

impl Desk {
    pub(super) fn new(model: GpuDecoder) -> Self {
        Self { model, taken: 0, logits: Vec::new() }
    }

    /// All pages are free again.
    pub(super) fn clear(&mut self) {
        self.taken = 0;
    }

    /// Pages for `room` rows, none of them there yet; nothing when there are not so many.
    pub(super) fn blank(&mut self, room: usize, start: usize) -> Option<Rows> {
        let shape = self.model.shape();
        let end = self.taken + room.div_ceil(shape.page_rows);
        if end > shape.pages {
            return None;
        }
        let pages = (self.taken as u32..end as u32).map(PageId).collect();
        self.taken = end;
        Some(Rows { pages, count: 0, start, encoded: start })
    }

    /// Seconds to forward `count` more rows behind `seen`, as many at a time as a batch holds, and to
    /// have the logits of the last.
    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    pub(super) fn prefill(
        &mut self,
        own: &mut Rows,
        count: usize,
        seen: &[&Rows],
    ) -> anyhow::Result<f64> {
        let (chunk, page_rows) = (self.model.shape().batch_rows_max, self.model.shape().page_rows);
        let begun = Instant::now();
        let end = own.count + count;
        while own.count < end {
            let first = own.count;
            own.count = end.min(first + chunk);
            let rows = own.count - first;
            let tokens: Vec<TokenId> = (first..own.count).map(|row| token(self, row)).collect();
            let positions: Vec<_> = (first..own.count).map(|r| (own.start + r) as u32).collect();
            let writes: Vec<_> = (first..own.count).map(|r| address(own, r, page_rows)).collect();
            let runs: Vec<_> = seen.iter().copied().chain([&*own]).map(Rows::run).collect();
            let wanted: &[usize] = if own.count == end { &[rows - 1] } else { &[] };
            let batch = Batch {
                tokens: &tokens,
                positions: &positions,
                writes: &writes,
                spans: &[Span::new(0..rows, &runs)],
                logits_rows: wanted,
            };
            self.model.try_forward(&batch, &mut self.logits)?;
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Seconds of one decode step of all sequences: the mean of `steps` after a few that are not
    /// counted.
    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    pub(super) fn decode(
        &mut self,
        sequences: &mut [Sequence],
        steps: usize,
    ) -> anyhow::Result<f64> {
        let page_rows = self.model.shape().page_rows;
        let all: Vec<usize> = (0..sequences.len()).collect();
        let mut begun = Instant::now();
        for step in 0..WARM_STEPS + steps {
            if step == WARM_STEPS {
                begun = Instant::now();
            }
            let (mut tokens, mut positions, mut writes) = (Vec::new(), Vec::new(), Vec::new());
            for sequence in sequences.iter_mut() {
                let own = sequence.seen.last_mut().expect("a sequence has rows of its own");
                tokens.push(token(self, own.count));
                positions.push((own.start + own.count) as u32);
                writes.push(address(own, own.count, page_rows));
                own.count += 1;
            }
            let runs: Vec<Vec<_>> = sequences
                .iter()
                .map(|sequence| sequence.seen.iter().map(Rows::run).collect())
                .collect();
            let spans: Vec<_> =
                runs.iter().enumerate().map(|(row, runs)| Span::new(row..row + 1, runs)).collect();
            let batch = Batch {
                tokens: &tokens,
                positions: &positions,
                writes: &writes,
                spans: &spans,
                logits_rows: &all,
            };
            self.model.try_forward(&batch, &mut self.logits)?;
        }
        Ok(begun.elapsed().as_secs_f64() / steps as f64)
    }
}

fn address(own: &Rows, row: usize, page_rows: usize) -> RowAddr {
    RowAddr { page: own.pages[row / page_rows], row: (row % page_rows) as u32 }
}

fn token(desk: &Desk, row: usize) -> TokenId {
    (row * 7919 % desk.model.shape().vocab) as TokenId
}

/// Steps until everything is compiled, chosen and recorded.
pub(super) const WARM_STEPS: usize = 4;

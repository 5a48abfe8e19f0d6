//! Cases whose rows are spans of their own, each of which has the same runs in another order: pages
//! are read once for all who look at them, or once for each.

use super::{Case, Filled};
use crate::attention::{AttentionScratch, attention, reference};
use crate::case::{self, Expected, Rng, Tolerance, Trial, Work};
use crate::{Cpu, Run, Span};

/// A case of many spans.
pub(super) struct SharedCase {
    pub(super) case: Case,
    /// Pages are read once for all.
    pub(super) shares: bool,
}

impl case::Case for SharedCase {
    fn name(&self) -> String {
        let reads = if self.shares { "read once" } else { "read for each" };
        format!("spans of one row {reads}: {}", case::Case::name(&self.case))
    }

    fn trial(&self, _cpu: &Cpu, rng: &mut Rng) -> Box<dyn Trial> {
        let filled = self.case.fill(rng.bits() >> 8);
        let mut scratch = AttentionScratch::new();
        scratch.share_reads(self.shares);
        let output = vec![f32::NAN; filled.q.len()];
        Box::new(SharedTrial { filled, scratch, output })
    }

    fn tolerance(&self) -> Tolerance {
        case::Case::tolerance(&self.case)
    }

    fn work(&self) -> Work {
        case::Case::work(&self.case)
    }
}

struct SharedTrial {
    filled: Filled,
    scratch: AttentionScratch,
    output: Vec<f32>,
}

impl Trial for SharedTrial {
    fn run(&mut self, cpu: &Cpu) {
        let Filled { kv, shape, positions, .. } = &self.filled;
        let orders = orders(&self.filled);
        let spans = spans(&self.filled, &orders);
        let queries = self.filled.queries(0..positions.len(), &spans);
        attention(cpu, kv, shape, &queries, &mut self.scratch, &mut self.output);
    }

    fn output(&self) -> &[f32] {
        &self.output
    }

    fn expected(&self) -> Vec<Expected> {
        let Filled { kv, shape, positions, .. } = &self.filled;
        let orders = orders(&self.filled);
        let spans = spans(&self.filled, &orders);
        let queries = self.filled.queries(0..positions.len(), &spans);
        let mut values = vec![0.0; self.output.len()];
        reference::attention(kv, shape, &queries, &mut values);
        let magnitude = self.filled.magnitude();
        values.into_iter().map(|value| Expected { value, magnitude }).collect()
    }
}

/// The runs as each row has them.
pub(in crate::attention) fn orders(filled: &Filled) -> Vec<Vec<Run<'_>>> {
    let runs = filled.runs();
    (0..filled.positions.len()).map(|row| reordered(&runs, row)).collect()
}

/// A span for each row.
pub(in crate::attention) fn spans<'a>(
    filled: &Filled,
    orders: &'a [Vec<Run<'a>>],
) -> Vec<Span<'a>> {
    let rows = orders.iter().enumerate();
    rows.map(|(row, runs)| filled.span(row..row + 1, runs)).collect()
}

/// The runs side by side from position 0, beginning with number `first`; those whose rows say where
/// they stand stay there, behind all others.
fn reordered<'a>(runs: &[Run<'a>], first: usize) -> Vec<Run<'a>> {
    let (mut side_by_side, scattered): (Vec<_>, Vec<_>) =
        runs.iter().copied().partition(|run| run.positions.is_none());
    let count = side_by_side.len().max(1);
    side_by_side.rotate_left(first % count);
    let mut start = 0;
    for run in &mut side_by_side {
        run.shift += start as i32 - run.start as i32;
        run.start = start;
        start += run.rows;
    }
    side_by_side.into_iter().chain(scattered).collect()
}

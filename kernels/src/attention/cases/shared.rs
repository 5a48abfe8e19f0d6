//! Cases whose rows are spans of their own, each of which has the same runs in another order: pages
//! are read once for all who look at them, or once for each.

use super::{BatchTrial, Case, Filled};
use crate::case::{self, Rng, Tolerance, Trial, Work};
use crate::{Cpu, Run};

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
        let mut trial = BatchTrial::new(self.case.fill(rng.bits() >> 8), true);
        trial.scratch.share_reads(self.shares);
        Box::new(trial)
    }

    fn tolerance(&self) -> Tolerance {
        case::Case::tolerance(&self.case)
    }

    fn work(&self) -> Work {
        case::Case::work(&self.case)
    }
}

/// The runs as each row has them.
pub(in crate::attention) fn orders(filled: &Filled) -> Vec<Vec<Run<'_>>> {
    let runs = filled.runs();
    (0..filled.positions.len()).map(|row| reordered(&runs, row)).collect()
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

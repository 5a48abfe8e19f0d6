//! Decode steps that are issued by one call: recorded for a number of rows, and issued again for every
//! step that launches the same.

use super::pass::End;
use super::plans::Plans;
use kernels::cuda::{Graph, Launches};

/// What was issued before, and what of it is recorded.
pub(super) struct Graphs {
    steps: Vec<Step>,
    pub(super) are_used: bool,
}

struct Step {
    rows: usize,
    end: End,
    launches: Vec<Launches>,
    /// None: issued once, op by op, so that all it needs is compiled and chosen.
    graph: Option<Graph>,
}

/// How a step is to be issued.
pub(super) enum Way<'g> {
    /// Op by op: it is a new one.
    Plain,
    /// Op by op, while that is recorded.
    Record(&'g mut Option<Graph>),
    /// As it was recorded.
    Recorded(&'g Graph),
}

impl Graphs {
    pub(super) fn new() -> Self {
        Self { steps: Vec::new(), are_used: true }
    }

    /// To how many rows a step of `rows` rows is filled up; none where that is more than `most`.
    pub(super) fn filled(rows: usize, most: usize) -> Option<usize> {
        let filled = match rows {
            0..=8 => rows.next_power_of_two(),
            9..=64 => rows.next_multiple_of(8),
            _ => rows.next_multiple_of(32),
        };
        (filled <= most.min(ROWS_MAX)).then_some(filled)
    }

    /// How to issue a step of so many rows that ends so, by these plans.
    pub(super) fn way(&mut self, (rows, end): (usize, End), plans: &Plans) -> Way<'_> {
        if !self.are_used {
            return Way::Plain;
        }
        let known = self.steps.iter().position(|step| {
            (step.rows, step.end) == (rows, end)
                && step.launches.iter().copied().eq(plans.launches())
        });
        let Some(known) = known else {
            if self.steps.len() == STEPS_MAX {
                self.steps.clear();
            }
            self.steps.push(Step { rows, end, launches: plans.launches().collect(), graph: None });
            return Way::Plain;
        };
        match &mut self.steps[known].graph {
            Some(graph) => Way::Recorded(graph),
            none => Way::Record(none),
        }
    }

    /// Forgets what was recorded: memory that it uses has moved.
    pub(super) fn clear(&mut self) {
        self.steps.clear();
    }
}

/// Rows of the largest step that is recorded: beyond it, issuing is not what takes the time.
const ROWS_MAX: usize = 256;

/// Steps that are remembered.
const STEPS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_filled_up_to_a_few_numbers_of_rows() {
        let filled = |rows| Graphs::filled(rows, 200);
        let some = [1, 3, 8, 9, 60, 65, 192].map(filled);
        assert_eq!(some, [1, 4, 8, 16, 64, 96, 192].map(Some));
        assert_eq!((filled(193), filled(500)), (None, None));
    }
}

//! What a policy asks of one composition: where fragments stand, and which rows are computed again.

use crate::Composition;
use kernels::Tempered;
use models::Weight;
use std::{ops::Range, sync::Arc};

/// A composition as policies see it: how long its parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// Root tokens.
    pub(crate) root: usize,
    /// Tokens of each placement.
    pub(crate) lengths: Vec<usize>,
    /// Rows at the front that saw exactly what stands before them: those of the first placement,
    /// unless it was sealed after something else than the root.
    pub(crate) exact: usize,
    /// Tokens of the tail.
    pub(crate) tail: usize,
}

impl Places {
    /// Of a composition.
    pub(crate) fn new(composition: &Composition) -> Self {
        let Composition { root, placements, tail } = composition;
        let lengths: Vec<_> = placements.iter().map(|placement| placement.tokens.len()).collect();
        let first = placements.first().filter(|placement| placement.sealed.is_none());
        let exact = first.map_or(0, |placement| placement.tokens.len());
        Self { root: root.len(), lengths, exact, tail: tail.len() }
    }

    /// Rows of all placements.
    pub(crate) fn rows(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Sequential positions of each placement.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.lengths.iter().scan(self.root, |start, length| {
            let range = *start..*start + length;
            *start = range.end;
            Some(range)
        })
    }

    /// Placements with rows that did not see exactly what stands before them.
    pub(crate) fn mendable(&self) -> usize {
        self.lengths.len() - usize::from(self.exact > 0)
    }

    /// Sequential positions of the first `count` rows of every placement, ascending, but for the
    /// first placement where its rows are exact.
    pub(crate) fn heads(&self, count: usize) -> impl Iterator<Item = u32> {
        let later = self.ranges().filter(|range| range.start >= self.root + self.exact);
        later.flat_map(move |range| range.take(count)).map(|position| position as u32)
    }

    /// Sequential positions of the `count` rows with the largest scores (one score for each row of
    /// the placements), ties to the earlier row; ascending.
    pub(crate) fn best(&self, scores: &[f64], count: usize) -> Vec<u32> {
        let mut best = self.ranked(scores);
        best.truncate(count);
        best.sort_unstable();
        best
    }

    /// Sequential positions of all rows, the largest score first, ties to the earlier row.
    pub(crate) fn ranked(&self, scores: &[f64]) -> Vec<u32> {
        assert_eq!(scores.len(), self.rows(), "a score for every row of the placements");
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        order.into_iter().map(|row| (self.root + row) as u32).collect()
    }

    /// How many rows a share of all is: at least one, where there is any.
    pub(crate) fn share(&self, ratio: f64) -> usize {
        ((self.rows() as f64 * ratio).floor() as usize).max(1).min(self.rows())
    }
}

/// Which rows are computed again.
#[derive(Clone, Debug)]
pub(crate) enum Choice {
    /// These, by their sequential positions, ascending.
    Rows(Arc<[u32]>),
    /// The choice is made when rows have scores.
    Scored {
        by: Scores,
        /// Rows it may choose.
        rows_max: usize,
        choose: fn(&super::JoinPolicy, &Places, &Evidence) -> Vec<u32>,
    },
}

/// What rows are chosen by.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    /// A score for each row of the placements.
    pub(crate) scores: Vec<f64>,
    /// Where the tail scored them: the entropy of the token after it, in nats, over rows as they are
    /// cached.
    pub(crate) entropy: f64,
}

/// What rows are scored by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scores {
    /// What they weigh with the tail over rows as they are cached, in all heads and layers.
    Tail(Weight),
    /// How far their V is at layer 1, when layer 0 saw the whole composition, from what is cached.
    Deviation,
}

/// Where the fragments of a composition stand, and how the tail weighs them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Layout {
    /// One after another.
    Sequential,
    /// All right after the root.
    Parallel { temperature: f32, scale: f32 },
}

impl Layout {
    /// Where the tail begins.
    pub(crate) fn tail_start(self, places: &Places) -> usize {
        let placed = match self {
            Self::Sequential => places.rows(),
            Self::Parallel { .. } => places.lengths.iter().copied().max().unwrap_or(0),
        };
        places.root + placed
    }

    /// How the tail weighs the runs of `placements` fragments.
    pub(crate) fn tempered(self, placements: usize) -> Option<Tempered> {
        match self {
            Self::Parallel { temperature, scale } if placements > 0 => {
                Some(Tempered { runs: placements, temperature, scale })
            }
            _ => None,
        }
    }
}

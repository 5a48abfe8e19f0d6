//! Rows that sequences have in common: which of one's own rows another may begin with instead of
//! computing them.
//!
//! A swap leaves the rows that are there as they are, so a sequence that was swapped in has rows of two
//! kinds. Those before its first swap are what they would be without one, and may be shared. Those behind
//! it saw one thing and then another: nobody who begins now has such rows, so they stay its own, and a
//! fork from there computes tail and answer again over what stood there.

use crate::{fragments::Content, sequence::Sequence};

/// The first rows of a sequence that was swapped in.
pub(crate) struct BeforeSwap {
    /// What was placed when they were computed.
    placements: Vec<Content>,
    starts: Vec<u32>,
    /// How many they are.
    rows: usize,
}

impl Sequence {
    /// Notes, before other fragments are put in for the first time, what its rows saw.
    pub(crate) fn note_before_swap(&mut self) {
        if self.before_swap.is_none() {
            let (placements, starts) = (self.placements.clone(), self.starts.clone());
            self.before_swap = Some(BeforeSwap { placements, starts, rows: self.rows });
        }
    }

    /// Its first rows that all saw the same: what is placed before them, where, and how many they are.
    fn first_rows(&self) -> (&[Content], &[u32], usize) {
        match &self.before_swap {
            Some(before) => (&before.placements, &before.starts, before.rows),
            None => (&self.placements, &self.starts, self.rows),
        }
    }

    /// Own rows of another sequence that would be the same here, where none is computed yet: those of
    /// tokens in common, where the same stands before them in the same way.
    pub(crate) fn rows_like(&self, other: &Self) -> usize {
        assert_eq!(self.rows, 0, "only what has no rows yet begins with another's");
        let of = |sequence: &Self| {
            let root = sequence.root.as_ref().map(|root| root.id);
            (root, sequence.own_start, sequence.request.policy.layout())
        };
        let (placed, starts, rows) = other.first_rows();
        let is_placed_alike = self.starts == starts
            && self.placements.iter().map(|placed| placed.id).eq(placed.iter().map(|it| it.id));
        let selected =
            |sequence: &Self| sequence.repair.as_ref().map(|repair| repair.selected.clone());
        // Rows that are not chosen yet are unlike any.
        let is_chosen = self.repair.as_ref().is_none_or(|repair| repair.selected.is_some());
        let is_like = is_chosen
            && of(self) == of(other)
            && is_placed_alike
            && selected(self) == selected(other);
        if !is_like {
            return 0;
        }
        let common = self.own.iter().zip(&other.own).take_while(|(a, b)| a == b).count();
        common.min(rows).min(self.rows_reusable())
    }
}

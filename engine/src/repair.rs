//! A sequence's repair: choosing the rows that are computed again, and where they are.

use crate::{
    JoinPolicy, Request,
    fragments::Content,
    overlays::{OverlayId, OverlayKey},
    policy::{Choice, Evidence, Places, Scores},
    runner::Probed,
};
use kernels::PageId;
use std::sync::Arc;

/// The rows of a composition that are computed again.
pub(crate) struct Repair {
    policy: JoinPolicy,
    pub(crate) places: Places,
    choice: Choice,
    /// The rows, once they are chosen: by their sequential positions, ascending.
    pub(crate) selected: Option<Arc<[u32]>>,
    /// What all rows weigh so far, each the sum over the rows scored with.
    weights: Vec<u64>,
    /// Deviations of the first rows.
    deviations: Vec<f64>,
    /// How open the next token is, once the tail has scored.
    entropy: f64,
    /// The rows that the tail scored with are its own: no row is computed again.
    pub(crate) keeps_tail: bool,
    /// Rows scored with, or scored.
    pub(crate) scored: usize,
    /// Where the rows are: held while the sequence runs, once they are chosen and any.
    pub(crate) overlay: Option<OverlayId>,
    /// Pages kept for rows that are not chosen yet.
    pub(crate) reserved: Vec<PageId>,
}

impl Repair {
    /// Of a request whose composition is joined of fragments.
    pub(crate) fn new(request: &Request, places: Places) -> Self {
        let policy = request.policy;
        let choice = match &request.selected {
            Some(selected) => Choice::Rows(selected.clone()),
            None => policy.choice(&places),
        };
        let selected = match &choice {
            Choice::Rows(rows) => Some(rows.clone()),
            Choice::Scored { .. } => None,
        };
        Self {
            policy,
            places,
            choice,
            selected,
            weights: Vec::new(),
            deviations: Vec::new(),
            entropy: 0.0,
            keeps_tail: false,
            scored: 0,
            overlay: None,
            reserved: Vec::new(),
        }
    }

    /// No row is ever computed again, whatever scores would say.
    pub(crate) fn changes_nothing(&self) -> bool {
        matches!(&self.choice, Choice::Rows(rows) if rows.is_empty())
    }

    /// Rows that an overlay may need.
    pub(crate) fn rows_max(&self) -> usize {
        match (&self.selected, &self.choice) {
            (Some(rows), _) | (None, Choice::Rows(rows)) => rows.len(),
            (None, Choice::Scored { rows_max, .. }) => *rows_max,
        }
    }

    /// What rows are scored by, while they are not chosen.
    pub(crate) fn scoring(&self) -> Option<Scores> {
        match self.choice {
            Choice::Scored { by, .. } if self.selected.is_none() => Some(by),
            _ => None,
        }
    }

    /// Rows to score with or to score, of a tail of `tail` rows.
    pub(crate) fn rows_to_score(&self, tail: usize) -> usize {
        match self.scoring() {
            Some(Scores::Tail(_)) => tail - self.scored,
            Some(Scores::Deviation) => self.places.rows() - self.scored,
            None => 0,
        }
    }

    /// Takes what `rows` more rows gave; chooses when they were the last.
    pub(crate) fn score(&mut self, rows: usize, probed: &Probed, tail: usize) {
        assert!(self.scoring().is_some(), "scores are taken while rows are not chosen");
        match probed {
            Probed::Weights(weights, entropy) => {
                self.entropy = entropy.unwrap_or(self.entropy);
                self.weights.resize(weights.len(), 0);
                let sums = self.weights.iter_mut().zip(weights);
                sums.for_each(|(to, &weight)| *to = to.saturating_add(weight));
            }
            Probed::Deviations(deviations) => self.deviations.extend_from_slice(deviations),
        }
        self.scored += rows;
        if self.rows_to_score(tail) > 0 {
            return;
        }
        let Choice::Scored { choose, rows_max, .. } = self.choice else { unreachable!() };
        let mut scores = std::mem::take(&mut self.deviations);
        scores.extend(std::mem::take(&mut self.weights).into_iter().map(|weight| weight as f64));
        let evidence = Evidence { scores, entropy: self.entropy };
        let chosen = choose(&self.policy, &self.places, &evidence);
        assert!(chosen.len() <= rows_max, "{} of {rows_max} rows", chosen.len());
        assert!(chosen.is_sorted_by(|a, b| a < b), "rows in order");
        self.selected = Some(chosen.into());
    }

    /// Forgets scores that are not whole.
    pub(crate) fn restart(&mut self) {
        self.weights.clear();
        self.deviations.clear();
        self.scored = 0;
    }

    /// The overlay that the chosen rows make; none while they are not chosen, or not any.
    pub(crate) fn key(&self, root: &Content, placements: &[Content]) -> Option<OverlayKey> {
        let selected = self.selected.as_ref().filter(|selected| !selected.is_empty())?;
        Some(OverlayKey::new(root, placements, selected))
    }

    /// Every row that did not see what stands before it is computed again: all but those of a
    /// clean first placement, which saw the root.
    pub(crate) fn is_exact(&self) -> bool {
        let first = self.places.root + self.places.exact;
        let later = self.places.rows() - self.places.exact;
        let selected = self.selected.iter().flat_map(|selected| selected.iter());
        later == selected.filter(|&&position| position as usize >= first).count()
    }

    /// Rows times layers whose Q, K and V are computed for this composition alone, scoring
    /// included, with `tail` rows of tail and `layers` layers.
    pub(crate) fn row_layers(&self, tail: usize, layers: usize) -> usize {
        let scoring = match self.choice {
            Choice::Rows(_) => 0,
            // They had to be computed anyhow.
            Choice::Scored { .. } if self.keeps_tail => 0,
            Choice::Scored { by: Scores::Tail(_), .. } => tail * layers,
            Choice::Scored { by: Scores::Deviation, .. } => self.places.rows() * layers.min(2),
        };
        scoring + self.selected.as_ref().map_or(0, |selected| selected.len()) * layers
    }
}

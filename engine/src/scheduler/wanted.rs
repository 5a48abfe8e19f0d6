//! What a waiting job lacks before it can run: a place, and pages.

use crate::{
    FragmentId, Priority, job::Job, overlays::OverlayId, plan::Adopted, prefix::EntryId,
    repair::Repair, state::State,
};
use kernels::PageId;
use std::collections::BTreeSet;

/// Jobs that take each other's places.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Fragments to put.
    Put,
    /// Generations.
    Generate,
    /// Fragments of low priority to put: side contexts' few tokens.
    Upkeep,
}

impl Lane {
    /// In the order of their numbers.
    pub(super) const ALL: [Self; 3] = [Self::Put, Self::Generate, Self::Upkeep];

    pub(super) fn of(job: &Job) -> Self {
        match (job.is_sequence(), job.priority) {
            (true, _) => Self::Generate,
            (false, Priority::Low) => Self::Upkeep,
            (false, _) => Self::Put,
        }
    }
}

/// What a waiting job lacks.
pub(super) struct Wanted {
    /// Records without KV, with their pages.
    pub(super) records: Vec<(FragmentId, usize)>,
    /// Cached pages that begin its own run.
    pub(super) prefix: Vec<(EntryId, PageId)>,
    /// Rows of a running sequence that begin it instead.
    pub(super) adopted: Option<Adopted>,
    /// Further pages of its own run.
    pub(super) own: usize,
    /// The overlay it will look at, where it is there.
    pub(super) known: Option<OverlayId>,
    /// Pages for rows that are computed again, where it is not.
    pub(super) overlay: usize,
}

impl Wanted {
    /// `given`: records that got pages in this plan already.
    pub(super) fn new(state: &State, job: &Job, given: &BTreeSet<FragmentId>) -> Self {
        let page_rows = state.shape.page_rows;
        let has_pages = |id: FragmentId| {
            given.contains(&id) || state.fragments.get(id).is_some_and(|r| !r.pages.is_empty())
        };
        let lacking = job.needs.iter().filter(|need| !has_pages(need.id));
        let records = lacking.map(|need| (need.id, need.pages(page_rows))).collect();
        let Some(sequence) = job.sequence() else {
            let (prefix, adopted, known) = (Vec::new(), None, None);
            return Self { records, prefix, adopted, own: 0, known, overlay: 0 };
        };
        let mut prefix = if sequence.is_publishable() {
            state.prefixes.find(&job.tenant, &sequence.own[..sequence.rows_reusable()])
        } else {
            Vec::new()
        };
        let adopted = state.adoptable(&job.tenant, sequence);
        let adopted = adopted.filter(|adopted| adopted.rows > prefix.len() * page_rows);
        let begun = adopted.map_or(prefix.len(), |adopted| adopted.rows / page_rows);
        if adopted.is_some() {
            prefix.clear();
        }
        let own = sequence.own.len().div_ceil(page_rows) - begun;
        let known = state.overlay_of(sequence);
        let repaired = sequence.repair.as_ref().filter(|_| known.is_none());
        let overlay = repaired.map_or(0, Repair::rows_max).div_ceil(page_rows);
        Self { records, prefix, adopted, own, known, overlay }
    }

    pub(super) fn pages(&self) -> usize {
        self.records.iter().map(|&(_, pages)| pages).sum::<usize>() + self.own + self.overlay
    }
}

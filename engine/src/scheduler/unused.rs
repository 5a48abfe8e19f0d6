//! KV that nobody uses: what of it a plan counts on, and what it may evict.

use super::wanted::Wanted;
use crate::{
    FragmentId, job::Job, overlays::OverlayId, plan::Eviction, prefix::EntryId, state::State,
};
use kernels::PageId;
use std::collections::{BTreeMap, BTreeSet};

/// Records and cached pages that this plan counts on.
#[derive(Clone, Default)]
pub(super) struct Kept {
    pub(super) records: BTreeSet<FragmentId>,
    pub(super) prefixes: BTreeSet<EntryId>,
    pub(super) overlays: BTreeSet<OverlayId>,
}

impl Kept {
    pub(super) fn count_on(&mut self, job: &Job, wanted: &Wanted) {
        self.records.extend(job.needs.iter().map(|need| need.id));
        self.prefixes.extend(wanted.prefix.iter().map(|&(id, _)| id));
        self.overlays.extend(wanted.known);
    }
}

/// The least recently used KV that nobody uses, enough for `pages` or all there is, and the pages
/// it frees.
pub(super) fn evictable(state: &State, kept: &Kept, pages: usize) -> (Vec<Eviction>, usize) {
    if pages == 0 {
        return (Vec::new(), 0);
    }
    let records = state
        .fragments
        .iter()
        .filter(|record| record.is_evictable() && !kept.records.contains(&record.content.id))
        .map(|record| (record.used_at, &record.pages[..], Eviction::Record(record.content.id)));
    let prefixes = state
        .prefixes
        .iter()
        .filter(|(id, entry)| state.pages.owners(entry.page) == 1 && !kept.prefixes.contains(id))
        .map(|(id, entry)| {
            (entry.used_at, std::slice::from_ref(&entry.page), Eviction::Prefix(id))
        });
    let overlays = state
        .overlays
        .iter()
        .filter(|(id, overlay)| overlay.users == 0 && !kept.overlays.contains(id))
        .map(|(id, overlay)| (overlay.used_at, &overlay.pages[..], Eviction::Overlay(id)));
    let mut unused: Vec<_> = records.chain(prefixes).chain(overlays).collect();
    // What can be computed or fetched again goes before what cannot. Entries of one moment: the later
    // entered stand deeper, and go first.
    unused.sort_by_key(|(used_at, _, eviction)| {
        let (is_lost, depth) = match eviction {
            Eviction::Record(id) => {
                let is_sealed = state.fragments.held(*id).content.is_sealed();
                (is_sealed && !state.stored.is_safe(*id), None)
            }
            Eviction::Overlay(_) => (false, None),
            Eviction::Prefix(id) => (false, Some(std::cmp::Reverse(*id))),
        };
        (is_lost, *used_at, depth)
    });
    // Forks may have been sealed with pages in common: those are free when the last of them goes.
    let (mut freed, mut shared) = (0, BTreeMap::new());
    let mut is_freed = |page: PageId| match state.pages.owners(page) {
        1 => true,
        owners => {
            let left = shared.entry(page).or_insert(owners);
            *left -= 1;
            *left == 0
        }
    };
    let enough = |&(_, held, _): &(u64, &[PageId], Eviction)| {
        let wanted = freed < pages;
        if wanted {
            freed += held.iter().filter(|&&page| is_freed(page)).count();
        }
        wanted
    };
    let evictions = unused.into_iter().take_while(enough).map(|(_, _, eviction)| eviction);
    let evictions: Vec<_> = evictions.collect();
    (evictions, freed)
}

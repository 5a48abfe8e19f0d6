//! What the loop knows: pages, records, cached prefixes, and jobs. `plan` reads it; `commit`
//! changes who owns a page; receiving changes only what waits.

use crate::{
    FragmentId, FragmentInfo, SequenceId, Stats,
    board::Board,
    fragments::{Fragments, Record},
    job::{Job, Reply},
    overlays::{OverlayId, Overlays},
    pages::Pages,
    plan::Adopted,
    prefix::Prefixes,
    queue::Queue,
    sequence::{Sequence, closing_len},
    stored::Stored,
    swap::Asked,
    tier::Notice,
};
use models::ModelShape;
use std::{collections::BTreeMap, sync::Arc};

/// The books of the engine.
pub(crate) struct State {
    pub(crate) shape: ModelShape,
    pub(crate) pages: Pages,
    pub(crate) fragments: Fragments,
    pub(crate) prefixes: Prefixes,
    pub(crate) overlays: Overlays,
    pub(crate) stored: Stored,
    pub(crate) waiting: Queue,
    pub(crate) running: BTreeMap<SequenceId, Job>,
    /// Fragments to forget, each with who asked.
    pub(crate) drops: Vec<(FragmentId, Reply<()>)>,
    /// Sealed records to forget, whose KV no tier has any more.
    pub(crate) lost: Vec<FragmentId>,
    /// Swaps to make.
    pub(crate) swaps: Vec<Asked>,
    /// Counts commits: recency without a clock.
    pub(crate) now: u64,
    pub(crate) stats: Stats,
    pub(crate) board: Arc<Board>,
}

impl State {
    pub(crate) fn new(shape: ModelShape, board: Arc<Board>) -> Self {
        Self {
            pages: Pages::new(shape.pages),
            fragments: Fragments::default(),
            prefixes: Prefixes::new(shape.page_rows),
            overlays: Overlays::default(),
            stored: Stored::default(),
            waiting: Queue::default(),
            running: BTreeMap::new(),
            drops: Vec::new(),
            lost: Vec::new(),
            swaps: Vec::new(),
            now: 0,
            stats: Stats::default(),
            board,
            shape,
        }
    }

    /// Waiting and running jobs.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.running.values().chain(self.waiting.iter())
    }

    /// Waiting and running jobs.
    pub(crate) fn jobs_mut(&mut self) -> impl Iterator<Item = &mut Job> {
        self.running.values_mut().chain(self.waiting.iter_mut())
    }

    /// Nothing is left to do.
    pub(crate) fn is_idle(&self) -> bool {
        let is_asked = !self.drops.is_empty() || !self.swaps.is_empty();
        self.running.is_empty() && self.waiting.is_empty() && !is_asked
    }

    /// The most own rows that a running sequence can give to one that is to run.
    pub(crate) fn adoptable(&self, tenant: &str, sequence: &Sequence) -> Option<Adopted> {
        let running = self.running.values().filter(|job| &*job.tenant == tenant);
        let rows = |job: &Job| Some((job.id, sequence.rows_like(job.sequence()?)));
        let (from, rows) = running.filter_map(rows).max_by_key(|&(_, rows)| rows)?;
        (rows > 0).then_some(Adopted { from, rows })
    }

    /// Records with pages whose KV came from the tier.
    pub(crate) fn to_load(&self) -> impl Iterator<Item = FragmentId> {
        let arrived = self.stored.arrived().keys().copied();
        let is_wanted = |record: &Record| !record.pages.is_empty() && !record.is_cached();
        arrived.filter(move |&id| self.fragments.get(id).is_some_and(is_wanted))
    }

    /// Tells the tier what a job will need that memory lacks.
    pub(crate) fn expect_cold(&mut self, job: &Job) {
        let Self { fragments, stored, .. } = self;
        for need in &job.needs {
            if !fragments.get(need.id).is_some_and(Record::is_cached) {
                stored.expect(need);
            }
        }
    }

    /// Takes what the tier says. What cannot be had is encoded, unless it is sealed.
    pub(crate) fn hear(&mut self, notice: Notice) {
        let about = notice.id();
        if let Some(lost) = self.stored.take(notice, self.shape.row_bytes) {
            let sequences = self.running.values_mut().filter_map(Job::sequence_mut);
            sequences.for_each(|sequence| sequence.count_lost(lost));
        }
        if let Some(id) = about {
            self.give_up(id);
        }
    }

    /// The overlay that a sequence's chosen rows make, where it is there.
    pub(crate) fn overlay_of(&self, sequence: &Sequence) -> Option<OverlayId> {
        let (repair, root) = (sequence.repair.as_ref()?, sequence.root.as_ref()?);
        self.overlays.find(&repair.key(root, &sequence.placements)?)
    }

    /// What is known of a fragment; `None` for roots and what is not known.
    pub(crate) fn info(&self, id: FragmentId) -> Option<FragmentInfo> {
        let record = self.fragments.get(id).filter(|record| record.content.root.is_some())?;
        Some(FragmentInfo {
            id,
            root: record.content.root_tokens.clone(),
            tokens: record.content.tokens.clone(),
            cached: record.is_cached(),
            stored: self.stored.has(id),
            pinned: record.pinned,
            users: record.users,
            digest: None,
            sealed: record.content.sealed.clone(),
        })
    }

    /// The numbers as they are now.
    pub(crate) fn stats(&self) -> Stats {
        let sequences = self.running.values().filter_map(Job::sequence);
        let pages = sequences.flat_map(Sequence::all_pages);
        let fragments = || self.fragments.iter().filter(|record| record.content.root.is_some());
        let generations = |job: &&Job| job.sequence().is_some();
        Stats {
            pages: self.pages.total(),
            pages_free: self.pages.free().len(),
            pages_sequences: pages.filter(|&&page| self.pages.owners(page) == 1).count(),
            fragments: fragments().count(),
            overlays: self.overlays.len(),
            fragments_stored: self.stored.len(),
            fragments_cached: fragments().filter(|record| record.is_cached()).count(),
            waiting: self.waiting.iter().filter(generations).count(),
            running: self.running.values().filter(generations).count(),
            ..self.stats
        }
    }

    /// Panics unless the books agree: every page has exactly the owners that its count says, and
    /// users of records are the running jobs that need them, and the waiting ones of what is sealed.
    pub(crate) fn check_integrity(&self) {
        let records = || self.fragments.iter().flat_map(|record| &record.pages).copied();
        let prefixes = self.prefixes.iter().map(|(_, entry)| entry.page);
        let sequences = self.running.values().filter_map(Job::sequence);
        let own = sequences.flat_map(Sequence::all_pages).copied();
        let overlays = || self.overlays.iter().flat_map(|(_, overlay)| &overlay.pages).copied();
        self.pages.check_integrity(records().chain(overlays()).chain(prefixes).chain(own));
        for page in overlays() {
            assert_eq!(self.pages.owners(page), 1, "{page:?} of an overlay has another owner");
        }
        let mut users: BTreeMap<FragmentId, usize> = BTreeMap::new();
        let running = self.running.values().flat_map(|job| &job.needs);
        for need in running.chain(self.waiting.iter().flat_map(Job::sealed)) {
            *users.entry(need.id).or_default() += 1;
        }
        for record in self.fragments.iter() {
            let counted = users.remove(&record.content.id).unwrap_or(0);
            let id = record.content.id;
            assert_eq!(record.users, counted, "users of {id}");
            assert!(!self.is_lost(id) || self.lost.contains(&id), "{id} is known and nowhere");
        }
        assert!(users.is_empty(), "running jobs need records that are forgotten: {users:?}");
        self.fragments.check_integrity(self.shape.page_rows);
        self.prefixes.check_integrity();
        self.stored.check_integrity();
        self.overlays.check_integrity(self.shape.page_rows);
        self.check_sequences();
        self.check_overlays();
    }

    fn check_sequences(&self) {
        for sequence in self.waiting.iter().filter_map(Job::sequence) {
            let is_free = sequence.all_pages().next().is_none() && sequence.rows == 0;
            let overlay = sequence.repair.as_ref().and_then(|repair| repair.overlay);
            assert!(is_free && overlay.is_none(), "waiting holds no pages");
        }
        for sequence in self.running.values().filter_map(Job::sequence) {
            let held = sequence.pages.len() * self.shape.page_rows;
            assert!(sequence.rows <= held, "rows stand in pages");
            assert!(sequence.rows < sequence.own.len(), "a running sequence has a row to compute");
            let most = sequence.prompt_len + sequence.output_max + closing_len(&sequence.request);
            assert!(sequence.own.len() <= most, "too long");
        }
    }

    fn check_overlays(&self) {
        let mut users: BTreeMap<OverlayId, usize> = BTreeMap::new();
        for sequence in self.running.values().filter_map(Job::sequence) {
            let Some(repair) = &sequence.repair else { continue };
            if let Some(id) = repair.overlay {
                assert_eq!(self.overlay_of(sequence), Some(id), "the overlay of its rows");
                *users.entry(id).or_default() += 1;
            }
            let is_kept = repair.reserved.is_empty() || repair.scoring().is_some();
            assert!(is_kept, "pages are kept while rows are not chosen");
        }
        for (id, overlay) in self.overlays.iter() {
            let counted = users.remove(&id).unwrap_or(0);
            assert_eq!(overlay.users, counted, "users of {id:?}");
        }
        assert!(users.is_empty(), "running jobs look at overlays that are gone: {users:?}");
    }
}

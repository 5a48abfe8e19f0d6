//! What the loop knows: pages, records, cached prefixes, and jobs. `plan` reads it; `commit`
//! changes who owns a page; receiving changes only what waits.

use crate::{
    FragmentId, FragmentInfo, SequenceId, Stats,
    board::Board,
    fragments::Fragments,
    job::{Job, Reply},
    pages::Pages,
    prefix::Prefixes,
    queue::Queue,
};
use models::ModelShape;
use std::{collections::BTreeMap, sync::Arc};

/// The books of the engine.
pub(crate) struct State {
    pub(crate) shape: ModelShape,
    pub(crate) pages: Pages,
    pub(crate) fragments: Fragments,
    pub(crate) prefixes: Prefixes,
    pub(crate) waiting: Queue,
    pub(crate) running: BTreeMap<SequenceId, Job>,
    /// Fragments to forget, each with who asked.
    pub(crate) drops: Vec<(FragmentId, Reply<()>)>,
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
            waiting: Queue::default(),
            running: BTreeMap::new(),
            drops: Vec::new(),
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
        self.running.is_empty() && self.waiting.is_empty() && self.drops.is_empty()
    }

    /// What is known of a fragment; `None` for roots and what is not known.
    pub(crate) fn info(&self, id: FragmentId) -> Option<FragmentInfo> {
        let record = self.fragments.get(id).filter(|record| record.content.root.is_some())?;
        Some(FragmentInfo {
            id,
            root: record.content.root_tokens.clone(),
            tokens: record.content.tokens.clone(),
            cached: record.is_cached(),
            pinned: record.pinned,
            users: record.users,
            digest: None,
        })
    }

    /// The numbers as they are now.
    pub(crate) fn stats(&self) -> Stats {
        let sequences = self.running.values().filter_map(Job::sequence);
        let pages = sequences.flat_map(|sequence| &sequence.pages);
        let fragments = || self.fragments.iter().filter(|record| record.content.root.is_some());
        let generations = |job: &&Job| job.sequence().is_some();
        Stats {
            pages: self.pages.total(),
            pages_free: self.pages.free().len(),
            pages_sequences: pages.filter(|&&page| self.pages.owners(page) == 1).count(),
            fragments: fragments().count(),
            fragments_cached: fragments().filter(|record| record.is_cached()).count(),
            waiting: self.waiting.iter().filter(generations).count(),
            running: self.running.values().filter(generations).count(),
            ..self.stats
        }
    }

    /// Panics unless the books agree: every page has exactly the owners that its count says, and
    /// users of records are the running jobs that need them.
    pub(crate) fn check_integrity(&self) {
        let records = || self.fragments.iter().flat_map(|record| &record.pages).copied();
        let prefixes = self.prefixes.iter().map(|(_, entry)| entry.page);
        let sequences = self.running.values().filter_map(Job::sequence);
        let own = sequences.flat_map(|sequence| &sequence.pages).copied();
        self.pages.check_integrity(records().chain(prefixes).chain(own));
        for page in records() {
            assert_eq!(self.pages.owners(page), 1, "{page:?} of a record has another owner");
        }
        let mut users: BTreeMap<FragmentId, usize> = BTreeMap::new();
        for need in self.running.values().flat_map(|job| &job.needs) {
            *users.entry(need.id).or_default() += 1;
        }
        for record in self.fragments.iter() {
            let counted = users.remove(&record.content.id).unwrap_or(0);
            assert_eq!(record.users, counted, "users of {}", record.content.id);
        }
        assert!(users.is_empty(), "running jobs need records that are forgotten: {users:?}");
        self.fragments.check_integrity(self.shape.page_rows);
        self.prefixes.check_integrity();
        self.check_sequences();
    }

    fn check_sequences(&self) {
        for sequence in self.waiting.iter().filter_map(Job::sequence) {
            assert!(sequence.pages.is_empty() && sequence.rows == 0, "waiting holds no pages");
        }
        for sequence in self.running.values().filter_map(Job::sequence) {
            let held = sequence.pages.len() * self.shape.page_rows;
            assert!(sequence.rows <= held, "rows stand in pages");
            assert!(sequence.rows < sequence.own.len(), "a running sequence has a row to compute");
            assert!(sequence.own.len() <= sequence.prompt_len + sequence.output_max, "too long");
        }
    }
}

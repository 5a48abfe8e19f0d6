//! The page store: which KV pages are free, and how many owners each other page has.
//!
//! Owns the counts, not the memory (the model holds that) and not the owners (fragments, cached
//! prefixes and sequences hold page ids). Invariant: a page is free exactly when it has no owner.

use kernels::PageId;
use std::collections::BTreeSet;

/// Reference counts of all pages.
pub(crate) struct Pages {
    owners: Vec<u32>,
    // Ordered, lowest first: memory is touched compactly, and a run can be replayed.
    free: BTreeSet<PageId>,
}

impl Pages {
    pub(crate) fn new(pages: usize) -> Self {
        let count = u32::try_from(pages).expect("a pool of fewer than 2^32 pages");
        Self { owners: vec![0; pages], free: (0..count).map(PageId).collect() }
    }

    pub(crate) fn total(&self) -> usize {
        self.owners.len()
    }

    /// Pages nobody owns, lowest first.
    pub(crate) fn free(&self) -> &BTreeSet<PageId> {
        &self.free
    }

    /// Owners of a page.
    pub(crate) fn owners(&self, page: PageId) -> u32 {
        self.owners[page.0 as usize]
    }

    /// Gives a free page its first owner.
    pub(crate) fn take(&mut self, page: PageId) {
        assert!(self.free.remove(&page), "{page:?} was taken but is not free");
        assert_eq!(self.owners[page.0 as usize], 0, "{page:?} was free but has owners");
        self.owners[page.0 as usize] = 1;
    }

    /// Gives an owned page one more owner.
    pub(crate) fn share(&mut self, page: PageId) {
        assert!(self.owners(page) > 0, "{page:?} was shared but nobody owns it");
        self.owners[page.0 as usize] += 1;
    }

    /// Takes one owner away; the page is free when it was the last.
    pub(crate) fn release(&mut self, page: PageId) {
        assert!(self.owners(page) > 0, "{page:?} was released but nobody owns it");
        self.owners[page.0 as usize] -= 1;
        if self.owners(page) == 0 {
            assert!(self.free.insert(page), "{page:?} had an owner but was free");
        }
    }

    /// Panics unless `held`, every page once for each of its owners, is what the counts say, and
    /// free pages and owned pages together are all pages.
    pub(crate) fn check_integrity(&self, held: impl Iterator<Item = PageId>) {
        let mut counted = vec![0; self.total()];
        for page in held {
            counted[page.0 as usize] += 1;
        }
        assert_eq!(counted, self.owners, "owners counted by walking, and reference counts");
        let owned = counted.iter().filter(|&&count| count > 0).count();
        assert_eq!(owned + self.free.len(), self.total(), "owned and free pages are all pages");
        for &page in &self.free {
            assert_eq!(self.owners(page), 0, "{page:?} is free but has owners");
        }
    }
}

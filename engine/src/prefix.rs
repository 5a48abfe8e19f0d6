//! The exact-prefix cache: whole pages of KV that `recompute` computed from position 0.
//!
//! A trie whose edges are the tokens of one page. An entry is found by its parent and by its
//! tokens themselves, so a hit is always a hit of equal tokens from position 0 on, whatever
//! hashes do. Only exact KV comes here, never that of a join (invariant 5); tenants share
//! nothing. An entry whose parent was evicted can no longer be found; it ages away, unless its page
//! is published again.
//! Invariant: a page is in one entry at most, so that evicting an entry nobody uses frees a page.

use kernels::PageId;
use models::TokenId;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Identity of an entry; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EntryId(u64);

/// One cached page.
pub(crate) struct Entry {
    key: Key,
    pub(crate) page: PageId,
    /// Moment of the latest use, by the state's counter.
    pub(crate) used_at: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    parent: Parent,
    tokens: Box<[TokenId]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Parent {
    Tenant(Arc<str>),
    Entry(EntryId),
}

/// All cached pages.
pub(crate) struct Prefixes {
    page_rows: usize,
    entries: BTreeMap<EntryId, Entry>,
    index: HashMap<Key, EntryId>,
    by_page: HashMap<PageId, EntryId>,
    next: u64,
}

impl Prefixes {
    pub(crate) fn new(page_rows: usize) -> Self {
        Self {
            page_rows,
            entries: BTreeMap::new(),
            index: HashMap::new(),
            by_page: HashMap::new(),
            next: 0,
        }
    }

    /// The longest cached chain of whole pages that begins `tokens`. Does not touch.
    pub(crate) fn find(&self, tenant: &Arc<str>, tokens: &[TokenId]) -> Vec<(EntryId, PageId)> {
        let mut parent = Parent::Tenant(tenant.clone());
        let mut found = Vec::new();
        for page_tokens in tokens.chunks_exact(self.page_rows) {
            let Some(&id) = self.index.get(&Key { parent, tokens: page_tokens.into() }) else {
                break;
            };
            found.push((id, self.entries[&id].page));
            parent = Parent::Entry(id);
        }
        found
    }

    /// Keeps an entry from being the next to go.
    pub(crate) fn touch(&mut self, id: EntryId, now: u64) {
        self.entries.get_mut(&id).expect("a touched entry exists").used_at = now;
    }

    /// Enters the whole pages of `tokens`, computed exactly and held in `pages`, where the cache
    /// has none. Returns the pages it now owns too.
    pub(crate) fn publish(
        &mut self,
        tenant: &Arc<str>,
        tokens: &[TokenId],
        pages: &[PageId],
        now: u64,
    ) -> Vec<PageId> {
        let mut parent = Parent::Tenant(tenant.clone());
        let mut entered = Vec::new();
        for (page_tokens, &page) in tokens.chunks_exact(self.page_rows).zip(pages) {
            let key = Key { parent, tokens: page_tokens.into() };
            let id = if let Some(&id) = self.index.get(&key) {
                self.touch(id, now);
                id
            } else {
                if !self.give_up_lost(page) {
                    entered.push(page);
                }
                self.enter(key, page, now)
            };
            parent = Parent::Entry(id);
        }
        entered
    }

    fn enter(&mut self, key: Key, page: PageId, now: u64) -> EntryId {
        let id = EntryId(self.next);
        self.next += 1;
        self.index.insert(key.clone(), id);
        self.by_page.insert(page, id);
        self.entries.insert(id, Entry { key, page, used_at: now });
        id
    }

    /// Removes the entry of a page that is published again: it was not found, so its parent is
    /// gone. Answers whether there was one; its share of the page passes to the next entry.
    fn give_up_lost(&mut self, page: PageId) -> bool {
        let lost = self.by_page.get(&page).copied();
        lost.map(|id| self.remove(id)).is_some()
    }

    /// Removes an entry and returns its page, the caller's to release.
    pub(crate) fn remove(&mut self, id: EntryId) -> PageId {
        let entry = self.entries.remove(&id).expect("an evicted entry exists");
        self.by_page.remove(&entry.page);
        let indexed = self.index.remove(&entry.key);
        assert_eq!(indexed, Some(id), "an entry is indexed under its key");
        entry.page
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (EntryId, &Entry)> {
        self.entries.iter().map(|(&id, entry)| (id, entry))
    }

    /// Panics unless entries, index and pages are one to one.
    pub(crate) fn check_integrity(&self) {
        assert_eq!(self.entries.len(), self.index.len(), "every entry is indexed once");
        assert_eq!(self.entries.len(), self.by_page.len(), "every page is entered once");
        for (id, entry) in self.iter() {
            assert_eq!(self.index.get(&entry.key), Some(&id), "an entry is found by its key");
            assert_eq!(self.by_page.get(&entry.page), Some(&id), "a page is in one entry");
            assert_eq!(entry.key.tokens.len(), self.page_rows, "only whole pages are cached");
        }
    }
}

#[cfg(test)]
mod tests;

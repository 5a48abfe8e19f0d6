//! The books of a store: which records and which files set aside are in its folder, and which goes
//! first when room is needed. Touches no file.
//!
//! Invariant: `bytes` is the size of all files in the books.

use crate::{
    FragmentId,
    tier::{Entry, record::file_name},
};
use std::{
    collections::{BTreeMap, VecDeque},
    time::SystemTime,
};

/// What is in the folder.
#[derive(Default)]
pub(crate) struct Index {
    held: BTreeMap<FragmentId, Held>,
    /// Names and sizes of files set aside, oldest first.
    bad: VecDeque<(String, u64)>,
    bytes: u64,
}

/// A record that is there.
pub(crate) struct Held {
    pub(crate) entry: Entry,
    /// Of its file.
    pub(crate) bytes: u64,
    pub(crate) used_at: SystemTime,
    /// Its file could not be read. It may be another time, but is written again when offered.
    pub(crate) is_doubtful: bool,
}

impl Held {
    /// The name of its file.
    pub(crate) fn name(&self) -> String {
        file_name(self.entry.id, self.entry.pinned)
    }
}

impl Index {
    pub(crate) fn get(&self, id: FragmentId) -> Option<&Held> {
        self.held.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: FragmentId) -> Option<&mut Held> {
        self.held.get_mut(&id)
    }

    pub(crate) fn enter(&mut self, held: Held) {
        self.bytes += held.bytes;
        let known = self.held.insert(held.entry.id, held);
        assert!(known.is_none(), "a record is entered once");
    }

    pub(crate) fn forget(&mut self, id: FragmentId) -> Held {
        let held = self.held.remove(&id).expect("a forgotten record was there");
        self.bytes -= held.bytes;
        held
    }

    /// Enters a file that was set aside; it may have taken the place of an older one.
    pub(crate) fn enter_bad(&mut self, name: String, bytes: u64) {
        if let Some(at) = self.bad.iter().position(|(known, _)| *known == name) {
            let (_, replaced) = self.bad.remove(at).expect("the position is that of an entry");
            self.bytes -= replaced;
        }
        self.bytes += bytes;
        self.bad.push_back((name, bytes));
    }

    /// Forgets the oldest file that was set aside.
    pub(crate) fn forget_bad(&mut self) -> Option<String> {
        let (name, bytes) = self.bad.pop_front()?;
        self.bytes -= bytes;
        Some(name)
    }

    pub(crate) fn bad_len(&self) -> usize {
        self.bad.len()
    }

    /// The record to give up first: a sealed one, which cannot be encoded again, only where such
    /// records take more than half of the budget, or where there is no other.
    pub(crate) fn to_give_up(&self, bytes_max: u64) -> Option<FragmentId> {
        let unpinned = || self.held.values().filter(|held| !held.entry.pinned);
        let is_sealed = |held: &Held| held.entry.sealed.is_some();
        let sealed: u64 = unpinned().filter(|held| is_sealed(held)).map(|held| held.bytes).sum();
        let sealed_first = sealed > bytes_max / 2;
        let oldest = unpinned().min_by_key(|held| (is_sealed(held) != sealed_first, held.used_at));
        oldest.map(|held| held.entry.id)
    }

    /// Records, least recently used first.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let mut held: Vec<&Held> = self.held.values().collect();
        held.sort_by_key(|held| held.used_at);
        held.into_iter().map(|held| held.entry.clone()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Of all files in the books.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn bytes_pinned(&self) -> u64 {
        self.held.values().filter(|held| held.entry.pinned).map(|held| held.bytes).sum()
    }
}

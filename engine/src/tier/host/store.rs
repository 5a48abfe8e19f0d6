//! The records in memory, within the byte budget. Runs on the tier's thread.
//!
//! Invariants: `bytes` is what all records take, and no more than the budget. A record is handed out
//! only if it is the one that was asked for, by its tokens, and its KV has the checksum that it had
//! when it was kept: memory fails, too.

use crate::{
    FragmentId,
    tier::{Entry, Figures, Kv, Notice, troubles::Troubles, worker::Records},
};
use models::TokenId;
use std::collections::BTreeMap;

/// The records of one model.
pub struct Store {
    bytes_max: u64,
    held: BTreeMap<FragmentId, Held>,
    bytes: u64,
    /// Uses of records so far: the moment of the next one.
    uses: u64,
    troubles: Troubles,
    evicted: u64,
    refused: u64,
    notices: Vec<Notice>,
}

/// A record that is there.
pub(crate) struct Held {
    entry: Entry,
    pub(crate) kv: Kv,
    checksum: blake3::Hash,
    bytes: u64,
    used_at: u64,
}

impl Store {
    /// Nothing yet.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            held: BTreeMap::new(),
            bytes: 0,
            uses: 0,
            troubles: Troubles::of("host"),
            evicted: 0,
            refused: 0,
            notices: Vec::new(),
        }
    }

    /// The latest trouble.
    #[cfg(test)]
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.troubles.last.as_deref()
    }

    /// Records, least recently used first.
    #[cfg(test)]
    pub(crate) fn held(&mut self) -> Vec<&mut Held> {
        let mut held: Vec<&mut Held> = self.held.values_mut().collect();
        held.sort_by_key(|held| held.used_at);
        held
    }

    /// The moment of a use, later than all before.
    fn moment(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    fn forget(&mut self, id: FragmentId) {
        if let Some(held) = self.held.remove(&id) {
            self.bytes -= held.bytes;
        }
    }

    /// Gives up records, least recently used first and sealed ones last, until so many bytes fit; none if pinned ones leave
    /// no room for them.
    fn make_room(&mut self, bytes: u64) -> Result<(), String> {
        let (pinned, unpinned): (Vec<_>, Vec<_>) =
            self.held.values().partition(|held| held.entry.pinned);
        let bytes_pinned: u64 = pinned.iter().map(|held| held.bytes).sum();
        let limit = self.bytes_max;
        if bytes_pinned.saturating_add(bytes) > limit {
            return Err(format!(
                "it takes {bytes} bytes beside {bytes_pinned} pinned; the limit is {limit}"
            ));
        }
        // Sealed records cannot be encoded again: they go last, unless they take more than half.
        let is_sealed = |held: &Held| held.entry.sealed.is_some();
        let sealed: u64 = unpinned.iter().filter(|h| is_sealed(h)).map(|h| h.bytes).sum();
        let sealed_first = sealed > limit / 2;
        let mut unpinned: Vec<_> = unpinned
            .iter()
            .map(|held| (is_sealed(held) != sealed_first, held.used_at, held.entry.id))
            .collect();
        unpinned.sort_unstable();
        for (_, _, id) in unpinned {
            if self.bytes + bytes <= limit {
                break;
            }
            self.forget(id);
            self.evicted += 1;
            self.notices.push(Notice::Gone(id));
        }
        Ok(())
    }
}

impl Records for Store {
    const IN_MEMORY: bool = true;

    fn entries(&self) -> Vec<Entry> {
        Vec::new()
    }

    fn keep(&mut self, entry: Entry, kv: &Kv) {
        let (id, used_at) = (entry.id, self.moment());
        if let Some(held) = self.held.get_mut(&id).filter(|held| held.entry.is_of(&entry)) {
            (held.used_at, held.entry.pinned) = (used_at, entry.pinned);
            return self.notices.push(Notice::Kept(id));
        }
        self.forget(id);
        let bytes = bytes_of(&entry, kv);
        if let Err(why) = self.make_room(bytes) {
            tracing::debug!(%id, why, "the host tier refuses a record");
            self.refused += 1;
            return self.notices.push(Notice::Gone(id));
        }
        let (checksum, kv) = (blake3::hash(kv), kv.clone());
        self.bytes += bytes;
        self.held.insert(id, Held { entry, kv, checksum, bytes, used_at });
        self.notices.push(Notice::Kept(id));
    }

    fn fetch(&mut self, asked: &Entry) -> Option<Kv> {
        let used_at = self.moment();
        let held = self.held.get_mut(&asked.id).filter(|held| held.entry.is_of(asked))?;
        let (given, expected) = (blake3::hash(&held.kv), held.checksum);
        if given != expected {
            let why = format!("its checksum is {given}; it must be {expected}");
            self.troubles.set_aside(&asked.id.to_string(), &why);
            self.forget(asked.id);
            return None;
        }
        held.used_at = used_at;
        Some(held.kv.clone())
    }

    fn remove(&mut self, id: FragmentId) {
        self.forget(id);
    }

    fn pin(&mut self, id: FragmentId, pinned: bool) {
        if let Some(held) = self.held.get_mut(&id) {
            held.entry.pinned = pinned;
        }
    }

    fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn figures(&self) -> Figures {
        let (records, bytes) = (self.held.len(), self.bytes);
        let (evicted, refused) = (self.evicted, self.refused);
        Figures { records, bytes, evicted, refused, ..self.troubles.figures() }
    }
}

/// Memory that a record takes.
fn bytes_of(entry: &Entry, kv: &Kv) -> u64 {
    let tokens = entry.root.len() + entry.tokens.len();
    (kv.capacity() + tokens * size_of::<TokenId>()) as u64
}

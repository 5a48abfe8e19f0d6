//! What the loop knows of the tier beyond its pages: which records it keeps, which are on their way,
//! and whether fetching is worth while.
//!
//! A record is offered to the tier as soon as it is whole, so that a killed process loses little.
//! A tier is told which records a job will need that waits, and may bring them nearer. A record is
//! fetched when a job is admitted that needs it and it has no KV: the job's pages are taken already,
//! so what arrives always has a place, and what does not arrive is encoded as if there were no tier;
//! but a sealed record cannot be, and is lost (`sealed.rs`). A tier that others write to is asked for
//! records that it was not known to keep.

use crate::{
    FragmentId,
    fragments::{Content, Fragments, Record},
    tier::{Entry, Kv, Notice},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// Of so many fetches that measured times speak against, one is made all the same: to see whether
/// they still do.
const TRY_EVERY: u32 = 16;

/// The loop's book of a tier.
#[derive(Default)]
pub(crate) struct Stored {
    /// There is a tier.
    is_open: bool,
    /// It may have records of so many rows that it did not list.
    unlisted_rows_min: Option<usize>,
    /// Records that it took.
    kept: BTreeSet<FragmentId>,
    /// Those of them that it said it has; of the others it may yet say that they are gone.
    safe: BTreeSet<FragmentId>,
    /// Whole records to offer, the oldest first.
    unkept: VecDeque<FragmentId>,
    /// It took no more when last offered.
    is_full: bool,
    fetching: BTreeSet<FragmentId>,
    /// Those of them that it was not known to keep, and that nobody wants to be gone.
    unlisted: BTreeSet<FragmentId>,
    arrived: BTreeMap<FragmentId, Kv>,
    asks: Vec<Ask>,
    /// Seconds a row takes, latest measurements first in weight.
    encode: Pace,
    load: Loads,
    /// The same of records that were not known to be kept: they come from farther.
    load_unlisted: Loads,
}

/// What fetching was measured to take.
#[derive(Default)]
struct Loads {
    pace: Pace,
    passed_over: u32,
}

/// What a commit asks of the tier.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ask {
    Fetch(FragmentId),
    Expect(Box<Entry>),
    Remove(FragmentId, usize),
    Pin(FragmentId),
}

/// Seconds that a row takes: a running mean.
#[derive(Clone, Copy, Debug, Default)]
struct Pace(Option<f64>);

impl Pace {
    fn note(&mut self, took: Duration, rows: usize) {
        let seconds = took.as_secs_f64() / rows.max(1) as f64;
        self.0 = Some(self.0.map_or(seconds, |mean| 0.75 * mean + 0.25 * seconds));
    }
}

impl Loads {
    /// Fetching was measured to be slower than encoding.
    fn is_slower(&self, encode: Pace) -> bool {
        matches!((self.pace.0, encode.0), (Some(l), Some(e)) if l > e)
    }

    /// Fetching is not slower, as far as is known; or it is time to see whether it still is.
    fn is_worth_while(&mut self, encode: Pace) -> bool {
        let is_slower = self.is_slower(encode);
        self.passed_over = if is_slower { (self.passed_over + 1) % TRY_EVERY } else { 0 };
        self.passed_over == 0
    }
}

impl Stored {
    /// A tier is there, and keeps these records; others of so many rows it may have, too.
    pub(crate) fn open(
        &mut self,
        kept: impl Iterator<Item = FragmentId>,
        unlisted_rows_min: Option<usize>,
    ) {
        self.is_open = true;
        self.unlisted_rows_min = unlisted_rows_min;
        self.kept.extend(kept);
        self.safe.clone_from(&self.kept);
    }

    /// Records that the tier took.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The tier took it.
    pub(crate) fn has(&self, id: FragmentId) -> bool {
        self.kept.contains(&id)
    }

    /// The tier said that it has it.
    pub(crate) fn is_safe(&self, id: FragmentId) -> bool {
        self.safe.contains(&id)
    }

    /// A record without KV, that has pages or not, can get it from the tier, or does at the next
    /// commit.
    pub(crate) fn may_bring(&self, id: FragmentId, has_pages: bool) -> bool {
        let has_arrived = has_pages && self.arrived.contains_key(&id);
        has_arrived || self.fetching.contains(&id) || self.kept.contains(&id)
    }

    /// No record waits to be offered.
    pub(crate) fn is_idle(&self) -> bool {
        self.unkept.is_empty()
    }

    /// Nothing goes on before the tier speaks, perhaps.
    pub(crate) fn is_awaited(&self) -> bool {
        self.is_full || !self.fetching.is_empty()
    }

    pub(crate) fn is_fetching(&self, id: FragmentId) -> bool {
        self.fetching.contains(&id)
    }

    /// A record's KV is whole: it is worth keeping.
    pub(crate) fn whole(&mut self, content: &Content) {
        if self.is_open && !self.kept.contains(&content.id) {
            self.unkept.push_back(content.id);
        }
    }

    /// The record to offer next: one that is whole still.
    pub(crate) fn to_keep(&self, fragments: &Fragments) -> Option<FragmentId> {
        let is_whole = |id| fragments.get(id).is_some_and(Record::is_cached);
        let mut unkept = self.unkept.iter().copied().filter(|_| !self.is_full);
        unkept.find(|&id| is_whole(id) && !self.kept.contains(&id))
    }

    /// A record was read to be offered; those before it are whole no more. Without one, none is.
    pub(crate) fn offered(&mut self, id: Option<FragmentId>) {
        if !self.is_full {
            while self.unkept.pop_front().is_some_and(|unkept| Some(unkept) != id) {}
        }
    }

    /// What came of offering.
    pub(crate) fn answered(&mut self, id: FragmentId, taken: bool) {
        if taken {
            self.kept.insert(id);
        } else {
            self.is_full = true;
            self.unkept.push_front(id);
        }
    }

    /// A record that has pages and no KV. `true`: it is on its way from the tier, perhaps.
    pub(crate) fn admit(&mut self, content: &Content) -> bool {
        let id = content.id;
        if self.fetching.contains(&id) {
            return true;
        }
        let is_kept = self.kept.contains(&id);
        if !is_kept && !self.may_be_there(content) {
            return false;
        }
        let loads = if is_kept { &mut self.load } else { &mut self.load_unlisted };
        // What cannot be encoded is fetched, however long that takes.
        if !content.is_sealed() && !loads.is_worth_while(self.encode) {
            return false;
        }
        if !is_kept {
            self.unlisted.insert(id);
        }
        self.fetching.insert(id);
        self.asks.retain(|ask| !matches!(ask, Ask::Expect(entry) if entry.id == id));
        self.asks.push(Ask::Fetch(id));
        true
    }

    /// A job comes that needs a record without KV: while it waits, the tier may bring it nearer.
    pub(crate) fn expect(&mut self, content: &Content) {
        let id = content.id;
        let is_kept = self.kept.contains(&id);
        let loads = if is_kept { &self.load } else { &self.load_unlisted };
        let is_worth_while = content.is_sealed() || !loads.is_slower(self.encode);
        let is_there = is_kept || self.may_be_there(content);
        if is_there && is_worth_while && !self.fetching.contains(&id) {
            self.asks.push(Ask::Expect(Box::new(content.entry())));
        }
    }

    /// Somebody else may have put it there: not what one server sealed.
    fn may_be_there(&self, content: &Content) -> bool {
        !content.is_sealed()
            && self.unlisted_rows_min.is_some_and(|min| content.tokens.len() >= min)
    }

    /// Rows were encoded, and nothing else done, in this time.
    pub(crate) fn encoded(&mut self, took: Duration, rows: usize) {
        self.encode.note(took, rows);
    }

    /// Someone wants a record to stay.
    pub(crate) fn pin(&mut self, id: FragmentId) {
        if self.kept.contains(&id) {
            self.asks.push(Ask::Pin(id));
        }
    }

    /// Someone wants a record of so many rows to be gone.
    pub(crate) fn remove(&mut self, id: FragmentId, rows: usize) {
        // It may have been what took the room.
        self.is_full = false;
        let is_there = self.forget(id) | self.unlisted.remove(&id);
        if is_there || self.unlisted_rows_min.is_some_and(|min| rows >= min) {
            self.asks.push(Ask::Remove(id, rows));
        }
    }

    pub(crate) fn asks(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.asks)
    }

    /// Takes what the tier says. Of a record that cannot be had, gives the identity.
    pub(crate) fn take(&mut self, notice: Notice, row_bytes: usize) -> Option<FragmentId> {
        self.is_full = false;
        match notice {
            Notice::Room => {}
            // It may have been removed since.
            Notice::Kept(id) => {
                if self.kept.contains(&id) {
                    self.safe.insert(id);
                }
            }
            Notice::Gone(id) => drop(self.forget(id)),
            Notice::Arrived { id, kv, took } => {
                self.fetching.remove(&id);
                let is_news = self.unlisted.remove(&id);
                let loads = if is_news { &mut self.load_unlisted } else { &mut self.load };
                loads.pace.note(took, kv.len() / row_bytes.max(1));
                if is_news {
                    self.kept.insert(id);
                    self.safe.insert(id);
                }
                self.arrived.insert(id, kv);
            }
            Notice::Lost(id) => {
                self.forget(id);
                self.unlisted.remove(&id);
                return self.fetching.remove(&id).then_some(id);
            }
        }
        None
    }

    /// It is not kept any more. `true`: it was.
    fn forget(&mut self, id: FragmentId) -> bool {
        self.safe.remove(&id);
        self.kept.remove(&id)
    }

    /// What came from the tier since the last commit.
    pub(crate) fn arrived(&self) -> &BTreeMap<FragmentId, Kv> {
        &self.arrived
    }

    /// It was put where it belongs; where nobody needs it any more it is kept still.
    pub(crate) fn clear_arrived(&mut self) {
        self.arrived.clear();
    }

    /// Panics unless what is on its way is kept or asked for in hope, and arrives once.
    pub(crate) fn check_integrity(&self) {
        for id in &self.unlisted {
            assert!(self.fetching.contains(id) && !self.kept.contains(id), "{id} is known");
        }
        assert!(self.safe.is_subset(&self.kept), "what the tier has was taken");
        for id in &self.fetching {
            assert!(!self.arrived.contains_key(id), "{id} arrived and is on its way");
        }
        assert!(self.is_open || self.kept.is_empty() && self.unkept.is_empty(), "no tier");
    }
}

/// The record of an entry, unless its identity is another's: the tier's files were mixed up.
pub(crate) fn content_of(fingerprint: &[u8; 32], entry: &Entry) -> Option<Content> {
    let root = |tokens| Content::root(fingerprint, &entry.tenant, tokens);
    let content = match &entry.sealed {
        None if entry.root.is_empty() => root(&entry.tokens),
        None => Content::after(fingerprint, &root(&entry.root), &entry.tokens),
        Some(_) if entry.root.is_empty() => return None,
        Some(sealed) => Content::sealed(fingerprint, &root(&entry.root), &entry.tokens, sealed),
    };
    (content.id == entry.id).then_some(content)
}

#[cfg(test)]
mod tests;

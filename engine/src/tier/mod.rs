//! Tiers: where the KV of records goes beyond the engine's pages, and comes back from after eviction
//! or, where it is a disk or a shared store, a restart.
//!
//! The engine's loop owns the decision (see `stored.rs`), a tier the bytes. A record that a tier
//! gives back has the bytes it took, verified, or none: wrong KV served is the worst failure there
//! is. A tier that fails costs time, and the sealed records that memory had given up: those cannot
//! be encoded again.

mod disk;
mod host;
mod layered;
mod origin;
mod queue;
mod record;
mod shared;
mod troubles;
mod worker;

pub use disk::{Disk, DiskConfig, DiskError};
pub use host::Host;
pub use layered::Layered;
pub use origin::Origin;
pub use shared::{SHARED_ROWS_MIN, Shared, SharedConfig, SharedError, StoreUrl, UrlError};

use crate::{FragmentId, Sealed};
use models::TokenId;
use std::{ops::Add, sync::Arc, time::Duration};

/// A record's KV, all its rows in order.
pub type Kv = Arc<Vec<u8>>;

/// A record as a tier knows it: a fragment, or a root.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its identity.
    pub id: FragmentId,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// Tokens it was encoded after; empty: it is a root.
    pub root: Arc<[TokenId]>,
    /// Its own tokens.
    pub tokens: Arc<[TokenId]>,
    /// What it saw besides its root; `None`: it is clean. What is sealed cannot be encoded again.
    pub sealed: Option<Arc<Sealed>>,
    /// Not given up for others.
    pub pinned: bool,
}

impl Entry {
    /// Whether both are of one record.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        let of = |entry: &Self| (entry.id, entry.tenant.clone(), entry.root.clone());
        let is_alike = self.tokens == other.tokens && self.sealed == other.sealed;
        of(self) == of(other) && is_alike
    }
}

/// Where KV goes beyond pages. Called on the loop's thread: nothing here waits for a disk but
/// [`Tier::entries`], [`Tier::wait`] and [`Tier::close`].
///
/// What is asked about one record takes effect in the order it was asked in; notices of what was
/// asked for earlier may still come after a record was removed.
pub trait Tier: Send {
    /// What is there when the engine starts, least recently used first. Called once.
    fn entries(&mut self) -> Vec<Entry>;

    /// Records of at least so many rows may be there though they are not listed, for others write
    /// them too: they are worth asking for. `None`: what is not listed is not there.
    fn unlisted_rows_min(&self) -> Option<usize> {
        None
    }

    /// Takes a record to keep. `false`: too much waits to be written; it may be offered again after
    /// the next notice. Otherwise [`Notice::Kept`] or [`Notice::Gone`] follows, unless the record is
    /// removed first.
    fn keep(&mut self, entry: Entry, kv: Kv) -> bool;

    /// Asks for a record's KV. [`Notice::Arrived`] or [`Notice::Lost`] follows, always; the record is
    /// not asked for again before.
    fn fetch(&mut self, entry: Entry);

    /// A job that waits will ask for a record: it may be brought nearer meanwhile. Nothing follows.
    fn expect(&mut self, _entry: Entry) {}

    /// Forgets a record of so many rows.
    fn remove(&mut self, id: FragmentId, rows: usize);

    /// Keeps a record from being given up for others, or no longer.
    fn pin(&mut self, id: FragmentId, pinned: bool);

    /// The next notice, if there is one.
    fn poll(&mut self) -> Option<Notice>;

    /// The next notice, waited for at most so long.
    fn wait(&mut self, timeout: Duration) -> Option<Notice>;

    /// What is there now, and what went wrong.
    fn figures(&self) -> Figures;

    /// The part of them that is about a store which others use, too.
    fn figures_shared(&self) -> Figures {
        Figures::default()
    }

    /// The part of them that is about this machine's memory.
    fn figures_host(&self) -> Figures {
        Figures::default()
    }

    /// Writes what waits to be written, and stops.
    fn close(&mut self);
}

/// What a tier tells the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A record outlives its pages; and the process, unless memory alone keeps it.
    Kept(FragmentId),
    /// A record that was not asked for is not there: given up for others, or never kept.
    Gone(FragmentId),
    /// A record's KV, verified.
    Arrived {
        /// Which record.
        id: FragmentId,
        /// What was kept.
        kv: Kv,
        /// Reading and verifying took so long.
        took: Duration,
    },
    /// A record that was asked for cannot be had.
    Lost(FragmentId),
    /// There may be room for what was not taken.
    Room,
}

impl Notice {
    /// The record it is about, if it is about one.
    pub(crate) fn id(&self) -> Option<FragmentId> {
        match *self {
            Self::Kept(id) | Self::Gone(id) | Self::Arrived { id, .. } | Self::Lost(id) => Some(id),
            Self::Room => None,
        }
    }
}

/// Gauges and counters of a tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Records there; those in a shared store are not counted.
    pub records: usize,
    /// Bytes they take, in memory and on disk, with those of files that were set aside.
    pub bytes: u64,
    /// Bytes of KV that wait to be written.
    pub bytes_waiting: u64,
    /// Records given up to make room.
    pub evicted: u64,
    /// Records that could not fit, were every unpinned record given up.
    pub refused: u64,
    /// Records that were not what they should be, and were set aside.
    pub set_aside: u64,
    /// Reads that failed.
    pub read_errors: u64,
    /// Writes, renames and deletions that failed.
    pub write_errors: u64,
}

impl Add for Figures {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            records: self.records + other.records,
            bytes: self.bytes + other.bytes,
            bytes_waiting: self.bytes_waiting + other.bytes_waiting,
            evicted: self.evicted + other.evicted,
            refused: self.refused + other.refused,
            set_aside: self.set_aside + other.set_aside,
            read_errors: self.read_errors + other.read_errors,
            write_errors: self.write_errors + other.write_errors,
        }
    }
}

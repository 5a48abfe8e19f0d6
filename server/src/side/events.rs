//! What happens to a side context: a numbered log, of which the newest events are held.
//!
//! Readers hold a place in it and nothing else: whoever is slow, or gone, costs nothing. A reader that
//! comes back to a place that is no longer held is told how many events it missed.

use crate::{limits::SIDE_EVENTS_MAX, sources::SourceSpec};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// Something that happened to a side context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SideEvent {
    /// What it holds is another.
    Changed {
        /// Its version from then on.
        version: u64,
        /// Numbers of the entries that came.
        added: Vec<u64>,
        /// Numbers of the entries that were taken away.
        removed: Vec<u64>,
        /// Its length in tokens.
        tokens: usize,
        /// When, since the Unix epoch.
        at: Duration,
    },
    /// Its oldest entries went.
    RolledOff {
        /// Its version from then on.
        version: u64,
        /// Their numbers.
        entries: Vec<u64>,
        /// The bound that they passed.
        why: Bound,
        /// Its length in tokens.
        tokens: usize,
    },
    /// What it is fed from could not be read.
    SourceFailed {
        /// Why.
        message: String,
        /// Failures in a row.
        failures: u32,
    },
    /// It is fed from something else from then on, or from nothing: nothing that came of another source
    /// follows.
    SourceChanged {
        /// From what.
        source: Option<Arc<SourceSpec>>,
    },
    /// It is gone; nothing follows.
    Deleted,
}

/// A bound of what a side context may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Tokens of all entries.
    Tokens,
    /// Entries.
    Entries,
    /// Time since an entry came.
    Age,
}

/// What all side contexts of a server went through so far.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Versions that came by entries, ticks and deletions.
    pub(crate) changes: AtomicU64,
    /// Entries that rolled off.
    pub(crate) rolled_off: AtomicU64,
    /// Readings of sources that failed.
    pub(crate) source_failures: AtomicU64,
}

impl Totals {
    fn count(&self, event: &SideEvent) {
        match event {
            SideEvent::Changed { .. } => self.changes.fetch_add(1, Ordering::Relaxed),
            SideEvent::RolledOff { entries, .. } => {
                self.rolled_off.fetch_add(entries.len() as u64, Ordering::Relaxed)
            }
            SideEvent::SourceFailed { .. } => self.source_failures.fetch_add(1, Ordering::Relaxed),
            SideEvent::SourceChanged { .. } | SideEvent::Deleted => 0,
        };
    }
}

/// The events of one side context. Clones are one log.
#[derive(Clone, Debug)]
pub(crate) struct EventLog {
    held: Arc<Mutex<Held>>,
    /// Goes up with every event, and when the log ends.
    length: watch::Sender<usize>,
    totals: Arc<Totals>,
}

#[derive(Debug, Default)]
struct Held {
    /// Number of the oldest event held.
    first: usize,
    events: VecDeque<Arc<SideEvent>>,
    ended: bool,
}

impl EventLog {
    /// No event yet; counted in `totals`.
    pub(crate) fn new(totals: Arc<Totals>) -> Self {
        Self { held: Arc::default(), length: watch::Sender::new(0), totals }
    }

    /// Adds an event; the oldest goes when too many are held. Nothing follows `Deleted`.
    pub(crate) fn append(&self, event: SideEvent) {
        self.totals.count(&event);
        let mut held = self.lock();
        if held.ended {
            return;
        }
        held.ended = event == SideEvent::Deleted;
        held.events.push_back(Arc::new(event));
        if held.events.len() > SIDE_EVENTS_MAX {
            held.events.pop_front();
            held.first += 1;
        }
        drop(held);
        self.length.send_modify(|length| *length += 1);
    }

    /// Ends all readers' streams: the server stops.
    pub(crate) fn close(&self) {
        self.lock().ended = true;
        self.length.send_modify(|_| {});
    }

    /// Reads after the event of that number; with none, from the oldest that is held.
    pub(crate) fn read(&self, seen: Option<usize>) -> EventReader {
        let next = seen.map_or_else(|| self.lock().first, |seen| seen.saturating_add(1));
        EventReader { length: self.length.subscribe(), log: self.clone(), next }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Nothing here panics half-way through a change.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a reader comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// An event and its number.
    Event(usize, Arc<SideEvent>),
    /// Events that are no longer held.
    Gap {
        /// How many.
        missed: usize,
        /// The number of the last.
        last: usize,
    },
}

/// A place in a log.
#[derive(Debug)]
pub(crate) struct EventReader {
    log: EventLog,
    length: watch::Receiver<usize>,
    next: usize,
}

impl EventReader {
    /// Waits for what comes next. `None` when the log has ended.
    pub(crate) async fn next(&mut self) -> Option<Reading> {
        loop {
            self.length.borrow_and_update();
            let ended = {
                let held = self.log.lock();
                if self.next < held.first {
                    let missed = held.first - self.next;
                    self.next = held.first;
                    return Some(Reading::Gap { missed, last: self.next - 1 });
                }
                if let Some(event) = held.events.get(self.next - held.first) {
                    self.next += 1;
                    return Some(Reading::Event(self.next - 1, Arc::clone(event)));
                }
                held.ended
            };
            if ended || self.length.changed().await.is_err() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! What handles and the loop share: the messages between them, and the board the loop writes on.

use crate::{
    FragmentId, FragmentInfo, RequestError, SequenceId, Stats,
    job::{Job, Reply},
    swap::Asked,
};
use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// From any handle to the loop.
pub(crate) enum Message {
    /// A generation or a put.
    Submit(Box<Job>),
    Cancel(SequenceId),
    Inspect {
        tenant: Arc<str>,
        id: FragmentId,
        digest: bool,
        reply: Reply<FragmentInfo>,
    },
    List {
        tenant: Arc<str>,
        reply: Reply<Vec<FragmentInfo>>,
    },
    Drop {
        tenant: Arc<str>,
        id: FragmentId,
        reply: Reply<()>,
    },
    Swap(Asked),
    Ping(Reply<()>),
    Shutdown {
        grace: Duration,
    },
}

/// Numbers and signs that handles read without waiting for the loop.
#[derive(Default)]
pub(crate) struct Board {
    stats: Mutex<Stats>,
    /// Generations submitted and not yet given a place.
    queued: AtomicUsize,
    closing: AtomicBool,
    /// Why the loop ended.
    ended: OnceLock<String>,
}

impl Board {
    /// Counts one more generation that waits; returns how many wait with it.
    pub(crate) fn enter(&self) -> usize {
        self.queued.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// One generation less waits.
    pub(crate) fn leave(&self) {
        let before = self.queued.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "a generation left the queue twice");
    }

    pub(crate) fn publish(&self, stats: &Stats) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = *stats;
    }

    pub(crate) fn stats(&self) -> Stats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on new work is refused.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// The loop has ended, for good.
    pub(crate) fn fail(&self, reason: &str) {
        self.ended.get_or_init(|| reason.to_owned());
    }

    /// Refuses when the engine is down or about to be.
    pub(crate) fn check_open(&self) -> Result<(), RequestError> {
        if self.ended.get().is_some() || self.closing.load(Ordering::Acquire) {
            return Err(self.down());
        }
        Ok(())
    }

    /// What a caller hears of an engine that is down.
    pub(crate) fn down(&self) -> RequestError {
        let reason = self.ended.get().map_or("it is shutting down", String::as_str);
        RequestError::EngineDown(reason.to_owned())
    }
}

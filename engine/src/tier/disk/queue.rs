//! What the loop asked of the disk's thread, and the notices that wait for the loop: all that both
//! threads touch.
//!
//! Records to write stand in one line; all else stands in another that goes first, for somebody may
//! wait for a fetch. Invariant: what is asked about a record that waits to be written is settled
//! with the waiting record itself, so going first never means going before its write.

use crate::{
    FragmentId,
    tier::{Entry, Figures, Notice},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Both lines, and the notices.
pub(crate) struct Queue {
    state: Mutex<State>,
    /// There is something to do, or nothing more will come.
    work: Condvar,
    /// There is a notice, or none will come.
    news: Condvar,
}

/// One thing to do.
pub(crate) enum Job {
    /// With its KV, when the record was waiting to be written.
    Fetch(FragmentId, Option<Arc<Vec<u8>>>),
    Remove(FragmentId),
    Pin(FragmentId, bool),
    Write(Entry, Arc<Vec<u8>>),
}

#[derive(Default)]
struct State {
    first: VecDeque<Job>,
    writes: VecDeque<(Entry, Arc<Vec<u8>>)>,
    /// KV of `writes`, and of the write at hand.
    bytes_waiting: u64,
    /// What the loop must hear if the thread dies over the job at hand.
    at_hand: Option<Notice>,
    notices: VecDeque<Notice>,
    figures: Figures,
    closing: bool,
    /// The thread is gone: nothing is done any more.
    ended: bool,
}

impl Queue {
    /// Nothing waits yet.
    pub(crate) fn new(figures: Figures) -> Self {
        let state = Mutex::new(State { figures, ..State::default() });
        Self { state, work: Condvar::new(), news: Condvar::new() }
    }

    /// Lines up a record to write, unless too much waits already.
    pub(crate) fn keep(&self, entry: Entry, kv: Vec<u8>) -> bool {
        let mut state = self.state();
        let bytes_waiting = state.bytes_waiting + kv.len() as u64;
        // One record may always wait, however large.
        if state.ended {
            // Nothing will make room any more: it is not to be offered again.
            state.notices.push_back(Notice::Gone(entry.id));
            return true;
        }
        if state.bytes_waiting > 0 && bytes_waiting > WAITING_BYTES_MAX {
            return false;
        }
        state.bytes_waiting = bytes_waiting;
        state.writes.push_back((entry, Arc::new(kv)));
        self.work.notify_one();
        true
    }

    pub(crate) fn fetch(&self, id: FragmentId) {
        let mut state = self.state();
        if state.ended {
            state.notices.push_back(Notice::Lost(id));
            return;
        }
        let waiting = state.writes.iter().rev().find(|(entry, _)| entry.id == id);
        let kv = waiting.map(|(_, kv)| kv.clone());
        state.first.push_back(Job::Fetch(id, kv));
        self.work.notify_one();
    }

    pub(crate) fn remove(&self, id: FragmentId) {
        let mut state = self.state();
        let mut bytes_dropped = 0;
        state.writes.retain(|(entry, kv)| {
            bytes_dropped += if entry.id == id { kv.len() as u64 } else { 0 };
            entry.id != id
        });
        state.bytes_waiting -= bytes_dropped;
        state.first.push_back(Job::Remove(id));
        self.work.notify_one();
    }

    pub(crate) fn pin(&self, id: FragmentId, pinned: bool) {
        let mut state = self.state();
        // A record may stand in line twice, and be there already.
        state.writes.iter_mut().filter(|(entry, _)| entry.id == id).for_each(|(entry, _)| {
            entry.pinned = pinned;
        });
        state.first.push_back(Job::Pin(id, pinned));
        self.work.notify_one();
    }

    pub(crate) fn poll(&self) -> Option<Notice> {
        self.state().notices.pop_front()
    }

    pub(crate) fn wait(&self, timeout: Duration) -> Option<Notice> {
        let quiet = |state: &mut State| state.notices.is_empty() && !state.ended;
        let waited = self.news.wait_timeout_while(self.state(), timeout, quiet);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.notices.pop_front()
    }

    pub(crate) fn figures(&self) -> Figures {
        let state = self.state();
        Figures { bytes_waiting: state.bytes_waiting, ..state.figures }
    }

    /// Lets the thread end when nothing is left to do.
    pub(crate) fn close(&self) {
        self.state().closing = true;
        self.work.notify_one();
    }

    /// The thread's next job, waited for; `None`: it is to end.
    pub(crate) fn next(&self) -> Option<Job> {
        let idle =
            |state: &mut State| state.first.is_empty() && state.writes.is_empty() && !state.closing;
        let waited = self.work.wait_while(self.state(), idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let write = |(entry, kv)| Job::Write(entry, kv);
        let job = state.first.pop_front();
        let job = job.or_else(|| state.writes.pop_front().map(write))?;
        state.at_hand = job.failure();
        Some(job)
    }

    /// What came of the job at hand, with so many bytes less to be written.
    pub(crate) fn done(
        &self,
        bytes_written: usize,
        notices: impl Iterator<Item = Notice>,
        figures: Figures,
    ) {
        let mut state = self.state();
        state.at_hand = None;
        state.bytes_waiting -= bytes_written as u64;
        state.notices.extend(notices);
        state.figures = figures;
        self.news.notify_one();
    }

    /// The thread is gone, whatever the reason: whoever waits for an answer gets one.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        let mut unanswered: Vec<Notice> = state.at_hand.take().into_iter().collect();
        unanswered.extend(state.first.drain(..).filter_map(|job| job.failure()));
        unanswered.extend(state.writes.drain(..).map(|(entry, _)| Notice::Gone(entry.id)));
        state.bytes_waiting = 0;
        state.notices.extend(unanswered);
        self.news.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    /// What the loop must hear when this is never done.
    fn failure(&self) -> Option<Notice> {
        match self {
            Self::Fetch(id, _) => Some(Notice::Lost(*id)),
            Self::Write(entry, _) => Some(Notice::Gone(entry.id)),
            Self::Remove(_) | Self::Pin(..) => None,
        }
    }
}

/// KV that may wait to be written: memory that is neither pool nor cache.
const WAITING_BYTES_MAX: u64 = 256 << 20;

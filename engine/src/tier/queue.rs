//! What the loop asked of a tier, and the notices that wait for the loop: all that the loop's thread
//! and the tier's touch.
//!
//! Records to write stand in one line; all else stands in another that goes first, for somebody may
//! wait for a fetch. Several jobs may be at hand at once, but one for each record. Invariant: what is
//! asked about a record that waits to be written is settled with the waiting record itself, so going
//! first never means going before its write.

use super::{Entry, Figures, Kv, Notice};
use crate::FragmentId;
use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
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
    Fetch(Entry),
    Expect(FragmentId),
    Remove(FragmentId),
    Pin(FragmentId, bool),
    Write(Entry, Kv),
}

/// Which jobs whoever asks for one takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    All,
    /// Those that somebody may wait for.
    AllButWrites,
}

#[derive(Default)]
struct State {
    first: VecDeque<Job>,
    writes: VecDeque<(Entry, Kv)>,
    /// KV of `writes`, and of the writes at hand.
    bytes_waiting: u64,
    at_hand: BTreeMap<FragmentId, AtHand>,
    notices: VecDeque<Notice>,
    figures: Figures,
    closing: bool,
    /// The thread is gone: nothing is done any more.
    ended: bool,
    /// Tasks of the thread that wait for something to do.
    wakers: Vec<Waker>,
}

/// A job that was taken and is not done.
struct AtHand {
    /// What the loop must hear if the thread dies over it.
    failure: Option<Notice>,
    /// What is being written; none once the record was removed.
    writing: Option<(Entry, Kv)>,
    bytes: u64,
}

impl Queue {
    /// Nothing waits yet.
    pub(crate) fn new(figures: Figures) -> Self {
        let state = Mutex::new(State { figures, ..State::default() });
        Self { state, work: Condvar::new(), news: Condvar::new() }
    }

    /// Lines up a record to write, unless too much waits already.
    pub(crate) fn keep(&self, entry: Entry, kv: Kv) -> bool {
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
        state.writes.push_back((entry, kv));
        self.wake(&mut state);
        true
    }

    /// Answers for a record that is not to be written at all.
    pub(crate) fn refuse(&self, id: FragmentId) {
        self.state().notices.push_back(Notice::Gone(id));
    }

    /// Lines up a fetch. A record that is still to be written is there at once.
    pub(crate) fn fetch(&self, entry: Entry) {
        let mut state = self.state();
        let id = entry.id;
        if state.ended {
            state.notices.push_back(Notice::Lost(id));
        } else if let Some(kv) = state.unwritten(&entry) {
            state.notices.push_back(Notice::Arrived { id, kv, took: Duration::ZERO });
        } else {
            state.first.push_back(Job::Fetch(entry));
            self.wake(&mut state);
        }
    }

    /// Lines up what makes a later fetch quicker.
    pub(crate) fn expect(&self, id: FragmentId) {
        let mut state = self.state();
        if !state.ended {
            state.first.push_back(Job::Expect(id));
            self.wake(&mut state);
        }
    }

    pub(crate) fn remove(&self, id: FragmentId) {
        let mut state = self.state();
        let mut bytes_dropped = 0;
        state.writes.retain(|(entry, kv)| {
            bytes_dropped += if entry.id == id { kv.len() as u64 } else { 0 };
            entry.id != id
        });
        state.bytes_waiting -= bytes_dropped;
        if let Some(at_hand) = state.at_hand.get_mut(&id) {
            at_hand.writing = None;
        }
        state.first.push_back(Job::Remove(id));
        self.wake(&mut state);
    }

    pub(crate) fn pin(&self, id: FragmentId, pinned: bool) {
        let mut state = self.state();
        // A record may stand in line twice, and be there already.
        state.writes.iter_mut().filter(|(entry, _)| entry.id == id).for_each(|(entry, _)| {
            entry.pinned = pinned;
        });
        state.first.push_back(Job::Pin(id, pinned));
        self.wake(&mut state);
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
        let mut state = self.state();
        state.closing = true;
        self.wake(&mut state);
    }

    /// The next job, if there is one.
    pub(crate) fn try_next(&self) -> Option<Job> {
        self.state().take(Takes::All)
    }

    /// The thread's next job, waited for; `None`: it is to end.
    pub(crate) fn next(&self) -> Option<Job> {
        let idle = |state: &mut State| !state.has_job(Takes::All) && !state.is_over(Takes::All);
        let waited = self.work.wait_while(self.state(), idle);
        waited.unwrap_or_else(PoisonError::into_inner).take(Takes::All)
    }

    /// The same in a thread that does several jobs at once.
    pub(crate) async fn next_of(&self, takes: Takes) -> Option<Job> {
        poll_fn(|context| {
            let mut state = self.state();
            match state.take(takes) {
                None if !state.is_over(takes) => state.wait_for_more(context),
                job => Poll::Ready(job),
            }
        })
        .await
    }

    /// Ready when the thread is to end as soon as it can.
    pub(crate) async fn closing(&self) {
        poll_fn(|context| {
            let mut state = self.state();
            if state.closing { Poll::Ready(()) } else { state.wait_for_more(context) }
        })
        .await;
    }

    /// What came of the job at hand for a record.
    pub(crate) fn done(
        &self,
        id: FragmentId,
        notices: impl Iterator<Item = Notice>,
        figures: Figures,
    ) {
        let mut state = self.state();
        let done = state.at_hand.remove(&id).expect("a job that is done was at hand");
        state.bytes_waiting -= done.bytes;
        state.notices.extend(notices);
        state.figures = figures;
        self.news.notify_one();
        // What was asked about this record meanwhile can be done now.
        self.wake(&mut state);
    }

    /// The thread is gone, whatever the reason: whoever waits for an answer gets one.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        let at_hand = std::mem::take(&mut state.at_hand);
        let mut unanswered: Vec<_> = at_hand.into_values().filter_map(|job| job.failure).collect();
        unanswered.extend(state.first.drain(..).filter_map(|job| job.failure()));
        unanswered.extend(state.writes.drain(..).map(|(entry, _)| Notice::Gone(entry.id)));
        state.bytes_waiting = 0;
        state.notices.extend(unanswered);
        self.news.notify_one();
    }

    /// There may be something to do.
    fn wake(&self, state: &mut State) {
        self.work.notify_one();
        state.wakers.drain(..).for_each(Waker::wake);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the queue when the thread that owns it ends, by a panic too.
pub(crate) struct Ending(pub(crate) Arc<Queue>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl State {
    /// KV of a record that is not written yet.
    fn unwritten(&self, asked: &Entry) -> Option<Kv> {
        let waiting = self.writes.iter().rev().find(|(entry, _)| entry.id == asked.id);
        let at_hand = || self.at_hand.get(&asked.id)?.writing.as_ref();
        let (entry, kv) = waiting.or_else(at_hand)?;
        entry.is_of(asked).then(|| kv.clone())
    }

    fn is_free(&self, id: FragmentId) -> bool {
        !self.at_hand.contains_key(&id)
    }

    fn has_job(&self, takes: Takes) -> bool {
        let mut writes = self.writes.iter().filter(|_| takes == Takes::All);
        self.first.iter().any(|job| self.is_free(job.id()))
            || writes.any(|(entry, _)| self.is_free(entry.id))
    }

    /// Nothing is to be done any more, by whoever takes such jobs.
    fn is_over(&self, takes: Takes) -> bool {
        self.closing
            && self.first.is_empty()
            && (self.writes.is_empty() || takes == Takes::AllButWrites)
    }

    fn take(&mut self, takes: Takes) -> Option<Job> {
        let first = self.first.iter().position(|job| self.is_free(job.id()));
        let write = || self.writes.iter().position(|(entry, _)| self.is_free(entry.id));
        let job = match (first, takes) {
            (Some(at), _) => self.first.remove(at),
            (None, Takes::All) => {
                write().and_then(|at| self.writes.remove(at)).map(|(e, kv)| Job::Write(e, kv))
            }
            (None, Takes::AllButWrites) => None,
        }?;
        self.at_hand.insert(job.id(), AtHand::new(&job));
        Some(job)
    }

    fn wait_for_more<T>(&mut self, context: &mut Context<'_>) -> Poll<T> {
        if !self.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            self.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

impl AtHand {
    fn new(job: &Job) -> Self {
        let writing = match job {
            Job::Write(entry, kv) => Some((entry.clone(), kv.clone())),
            Job::Fetch(_) | Job::Expect(_) | Job::Remove(_) | Job::Pin(..) => None,
        };
        let bytes = writing.as_ref().map_or(0, |(_, kv)| kv.len() as u64);
        Self { failure: job.failure(), writing, bytes }
    }
}

impl Job {
    /// The record it is about.
    pub(crate) fn id(&self) -> FragmentId {
        match self {
            Self::Fetch(entry) | Self::Write(entry, _) => entry.id,
            Self::Expect(id) | Self::Remove(id) | Self::Pin(id, _) => *id,
        }
    }

    /// What the loop must hear when this is never done.
    fn failure(&self) -> Option<Notice> {
        match self {
            Self::Fetch(entry) => Some(Notice::Lost(entry.id)),
            Self::Write(entry, _) => Some(Notice::Gone(entry.id)),
            Self::Expect(_) | Self::Remove(_) | Self::Pin(..) => None,
        }
    }
}

/// KV that may wait to be written: memory that is neither pool nor cache.
const WAITING_BYTES_MAX: u64 = 256 << 20;

#[cfg(test)]
mod tests;

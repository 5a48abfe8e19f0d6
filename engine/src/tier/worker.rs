//! A tier of a queue and of who does what it holds: a thread over the tier's records, or, where
//! nothing may depend on threads, whoever asks for notices.

use super::{
    Entry, Figures, Kv, Notice, Tier,
    queue::{Ending, Job, Queue},
};
use crate::{Clock, FragmentId};
use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

/// Records that one thread at a time works on.
pub trait Records: Send + 'static {
    /// They are in this machine's memory.
    const IN_MEMORY: bool;

    /// What is there at first, least recently used first.
    fn entries(&self) -> Vec<Entry>;

    /// Takes a record. `Kept` or `Gone` follows.
    fn keep(&mut self, entry: Entry, kv: &Kv);

    /// A record's KV, verified.
    fn fetch(&mut self, asked: &Entry) -> Option<Kv>;

    /// A record that is asked for soon.
    fn expect(&mut self, _id: FragmentId) {}

    /// Forgets a record, if it is there.
    fn remove(&mut self, id: FragmentId);

    /// Pins a record, or no longer, if it is there.
    fn pin(&mut self, id: FragmentId, pinned: bool);

    /// What came of the calls since the last time.
    fn take_notices(&mut self) -> Vec<Notice>;

    /// What is there, and what went wrong.
    fn figures(&self) -> Figures;
}

/// The loop's side of a tier: a queue, and who empties it.
pub struct Worker<R: Records> {
    /// Whose: "disk".
    tier: &'static str,
    /// What was there at first, until it is asked for.
    entries: Vec<Entry>,
    queue: Arc<Queue>,
    hands: Hands<R>,
}

enum Hands<R> {
    Thread(JoinHandle<()>),
    /// Whoever asks for a notice does a job every second time, so that some are always under way.
    Caller {
        records: R,
        clock: Arc<dyn Clock>,
        is_turn: bool,
    },
    /// It was closed.
    Gone,
}

impl<R: Records> Worker<R> {
    /// With a thread of its own.
    ///
    /// # Errors
    /// The machine has no thread to give.
    pub(crate) fn start(
        tier: &'static str,
        mut records: R,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let entries = records.entries();
        let queue = Arc::new(Queue::new(records.figures()));
        let ending = Ending(queue.clone());
        let thread = thread::Builder::new().name(format!("{tier} tier")).spawn(move || {
            while let Some(job) = ending.0.next() {
                work(&ending.0, &mut records, job, &*clock);
            }
        })?;
        Ok(Self { tier, entries, queue, hands: Hands::Thread(thread) })
    }

    /// Without one: the same jobs in the same order, whatever the machine does.
    pub(crate) fn without_thread(tier: &'static str, records: R, clock: Arc<dyn Clock>) -> Self {
        let entries = records.entries();
        let queue = Arc::new(Queue::new(records.figures()));
        let hands = Hands::Caller { records, clock, is_turn: false };
        Self { tier, entries, queue, hands }
    }
}

impl<R: Records> Tier for Worker<R> {
    fn entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    fn keep(&mut self, entry: Entry, kv: Kv) -> bool {
        assert!(!entry.tokens.is_empty(), "a record has tokens");
        self.queue.keep(entry, kv)
    }

    fn fetch(&mut self, entry: Entry) {
        self.queue.fetch(entry);
    }

    fn expect(&mut self, entry: Entry) {
        if !R::IN_MEMORY {
            self.queue.expect(entry.id);
        }
    }

    fn remove(&mut self, id: FragmentId, _: usize) {
        self.queue.remove(id);
    }

    fn pin(&mut self, id: FragmentId, pinned: bool) {
        self.queue.pin(id, pinned);
    }

    fn poll(&mut self) -> Option<Notice> {
        if let Hands::Caller { records, clock, is_turn } = &mut self.hands {
            *is_turn = !*is_turn;
            if *is_turn && let Some(job) = self.queue.try_next() {
                work(&self.queue, records, job, &**clock);
            }
        }
        self.queue.poll()
    }

    fn wait(&mut self, timeout: Duration) -> Option<Notice> {
        match self.hands {
            Hands::Caller { .. } => self.poll().or_else(|| self.poll()),
            Hands::Thread(_) | Hands::Gone => self.queue.wait(timeout),
        }
    }

    fn figures(&self) -> Figures {
        self.queue.figures()
    }

    fn figures_host(&self) -> Figures {
        if R::IN_MEMORY { self.figures() } else { Figures::default() }
    }

    /// Does what is left to do, and stops.
    fn close(&mut self) {
        self.queue.close();
        match std::mem::replace(&mut self.hands, Hands::Gone) {
            Hands::Thread(thread) => {
                if thread.join().is_err() {
                    let tier = self.tier;
                    tracing::error!(
                        "the {tier} tier's thread panicked; what it had to keep is lost"
                    );
                }
            }
            Hands::Caller { mut records, clock, .. } => {
                while let Some(job) = self.queue.try_next() {
                    work(&self.queue, &mut records, job, &*clock);
                }
                self.queue.end();
            }
            Hands::Gone => {}
        }
    }
}

impl<R: Records> Drop for Worker<R> {
    fn drop(&mut self) {
        self.close();
    }
}

/// Does one job, and tells the loop.
fn work(queue: &Queue, records: &mut impl Records, job: Job, clock: &dyn Clock) {
    let (id, mut answer) = (job.id(), None);
    match job {
        Job::Fetch(entry) => {
            let begun = clock.now();
            let kv = records.fetch(&entry);
            let took = clock.now().saturating_sub(begun);
            answer = Some(kv.map_or(Notice::Lost(id), |kv| Notice::Arrived { id, kv, took }));
        }
        Job::Expect(id) => records.expect(id),
        Job::Remove(id) => records.remove(id),
        Job::Pin(id, pinned) => records.pin(id, pinned),
        Job::Write(entry, kv) => records.keep(entry, &kv),
    }
    let notices = records.take_notices().into_iter().chain(answer);
    queue.done(id, notices, records.figures());
}

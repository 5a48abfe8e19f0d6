//! Who does what a tier's queue holds: a thread over the tier's records, or, where nothing may
//! depend on threads, whoever asks for notices.

use super::{
    Entry, Figures, Kv, Notice,
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
pub(crate) trait Records: Send + 'static {
    /// Takes a record. `Kept` or `Gone` follows.
    fn keep(&mut self, entry: Entry, kv: &Kv);

    /// A record's KV, verified.
    fn fetch(&mut self, asked: &Entry) -> Option<Kv>;

    /// Forgets a record, if it is there.
    fn remove(&mut self, id: FragmentId);

    /// Pins a record, or no longer, if it is there.
    fn pin(&mut self, id: FragmentId, pinned: bool);

    /// What came of the calls since the last time.
    fn take_notices(&mut self) -> Vec<Notice>;

    fn figures(&self) -> Figures;
}

/// The loop's side of a tier: a queue, and who empties it.
pub(crate) struct Worker {
    /// Whose: "disk".
    tier: &'static str,
    queue: Arc<Queue>,
    hands: Hands,
}

enum Hands {
    Thread(JoinHandle<()>),
    /// Whoever asks for a notice does a job every second time, so that some are always under way.
    Caller {
        records: Box<dyn Records>,
        clock: Arc<dyn Clock>,
        is_turn: bool,
    },
    /// It was closed.
    Gone,
}

impl Worker {
    /// With a thread of its own.
    ///
    /// # Errors
    /// The machine has no thread to give.
    pub(crate) fn start(
        tier: &'static str,
        mut records: impl Records,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(records.figures()));
        let ending = Ending(queue.clone());
        let thread = thread::Builder::new().name(format!("{tier} tier")).spawn(move || {
            while let Some(job) = ending.0.next() {
                work(&ending.0, &mut records, job, &*clock);
            }
        })?;
        Ok(Self { tier, queue, hands: Hands::Thread(thread) })
    }

    /// Without one: the same jobs in the same order, whatever the machine does.
    pub(crate) fn stepwise(
        tier: &'static str,
        records: impl Records,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let queue = Arc::new(Queue::new(records.figures()));
        let hands = Hands::Caller { records: Box::new(records), clock, is_turn: false };
        Self { tier, queue, hands }
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(crate) fn poll(&mut self) -> Option<Notice> {
        if let Hands::Caller { records, clock, is_turn } = &mut self.hands {
            *is_turn = !*is_turn;
            if *is_turn && let Some(job) = self.queue.try_next() {
                work(&self.queue, &mut **records, job, &**clock);
            }
        }
        self.queue.poll()
    }

    pub(crate) fn wait(&mut self, timeout: Duration) -> Option<Notice> {
        match self.hands {
            Hands::Caller { .. } => self.poll().or_else(|| self.poll()),
            Hands::Thread(_) | Hands::Gone => self.queue.wait(timeout),
        }
    }

    /// Does what is left to do, and stops.
    pub(crate) fn close(&mut self) {
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
                    work(&self.queue, &mut *records, job, &*clock);
                }
                self.queue.end();
            }
            Hands::Gone => {}
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.close();
    }
}

/// Does one job, and tells the loop.
fn work(queue: &Queue, records: &mut dyn Records, job: Job, clock: &dyn Clock) {
    let (id, mut answer) = (job.id(), None);
    match job {
        Job::Fetch(entry) => {
            let begun = clock.now();
            let kv = records.fetch(&entry);
            let took = clock.now().saturating_sub(begun);
            answer = Some(kv.map_or(Notice::Lost(id), |kv| Notice::Arrived { id, kv, took }));
        }
        Job::Remove(id) => records.remove(id),
        Job::Pin(id, pinned) => records.pin(id, pinned),
        Job::Write(entry, kv) => records.keep(entry, &kv),
    }
    let notices = records.take_notices().into_iter().chain(answer);
    queue.done(id, notices, records.figures());
}

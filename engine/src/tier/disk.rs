//! The disk tier: records as files in a folder, written and read on a thread of its own.
//!
//! Here the loop's side: what it asks goes into a queue (`queue.rs`), which the thread empties
//! into the store (`disk/store.rs`). Whatever fails on the disk or on the thread, the loop hears
//! `Gone` or `Lost` and goes on without.

mod calendar;
mod files;
mod index;
mod store;

use super::{
    Entry, Figures, Kv, Notice, Origin, Tier,
    queue::{Ending, Job, Queue},
};
use crate::{Clock, FragmentId};
use files::{Files, System};
use std::{
    io,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};
use store::Store;

/// Where records are kept, and what records they are.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// Models share it: each has a folder of its own below.
    pub dir: PathBuf,
    /// Bytes that this model's records may take.
    pub bytes_max: u64,
    /// Where their KV comes from.
    pub origin: Origin,
}

impl DiskConfig {
    /// This model's folder. Who has opened the tier has it alone, and may keep files of its own there.
    /// Of their names, those that contain `.tmp-` are deleted when the tier is opened, and those that
    /// end in `.bad` when there are many.
    pub fn folder(&self) -> PathBuf {
        self.dir.join(self.origin.folder())
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Two servers would delete each other's files.
    #[error("the folder {} is in use by another server", _0.display())]
    InUse(PathBuf),
    /// The folder could not be used.
    #[error("cannot {what} the folder {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// A tier on disk. Dropping it is closing it.
pub struct Disk {
    queue: Arc<Queue>,
    /// Until they are asked for.
    entries: Vec<Entry>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Opens the model's folder, made when it is missing, and reads what is there. Blocking.
    ///
    /// # Errors
    /// Another server has the folder, or it cannot be written to. Files that are not what they
    /// should be are set aside, and no error.
    pub fn open(config: DiskConfig, clock: Arc<dyn Clock>) -> Result<Self, DiskError> {
        Self::open_over(config, clock, Box::new(System))
    }

    fn open_over(
        config: DiskConfig,
        clock: Arc<dyn Clock>,
        files: Box<dyn Files>,
    ) -> Result<Self, DiskError> {
        let dir = config.dir.clone();
        let mut store = Store::open(config, clock.clone(), files)?;
        let entries = store.entries();
        let queue = Arc::new(Queue::new(store.figures()));
        let ending = Ending(queue.clone());
        let thread = thread::Builder::new()
            .name("disk tier".into())
            .spawn(move || work(&ending.0, &mut store, &*clock))
            .map_err(|source| DiskError::Io { what: "start a thread for", path: dir, source })?;
        Ok(Self { queue, entries, thread: Some(thread) })
    }
}

impl Tier for Disk {
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

    fn remove(&mut self, id: FragmentId, _: usize) {
        self.queue.remove(id);
    }

    fn pin(&mut self, id: FragmentId, pinned: bool) {
        self.queue.pin(id, pinned);
    }

    fn poll(&mut self) -> Option<Notice> {
        self.queue.poll()
    }

    fn wait(&mut self, timeout: Duration) -> Option<Notice> {
        self.queue.wait(timeout)
    }

    fn figures(&self) -> Figures {
        self.queue.figures()
    }

    fn close(&mut self) {
        self.queue.close();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the disk tier's thread panicked; what it had to write is lost");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.close();
    }
}

/// The thread's life.
fn work(queue: &Queue, store: &mut Store, clock: &dyn Clock) {
    while let Some(job) = queue.next() {
        let (id, mut answer) = (job.id(), None);
        match job {
            Job::Fetch(entry) => {
                let begun = clock.now();
                let kv = store.fetch(&entry).map(Arc::new);
                let took = clock.now().saturating_sub(begun);
                answer = Some(kv.map_or(Notice::Lost(id), |kv| Notice::Arrived { id, kv, took }));
            }
            Job::Remove(id) => store.remove(id),
            Job::Pin(id, pinned) => store.pin(id, pinned),
            Job::Write(entry, kv) => store.keep(entry, &kv),
        }
        let notices = store.take_notices().into_iter().chain(answer);
        queue.done(id, notices, store.figures());
    }
}

#[cfg(test)]
mod tests;

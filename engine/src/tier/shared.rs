//! The shared tier: records as objects in a store that several servers read and write, over the
//! network or in a common folder. An object's name is its record's identity, so whoever needs a
//! record knows where it would be.
//!
//! Here the loop's side; what it asks goes into a queue (`queue.rs`), which a thread of its own
//! empties into the store (`shared/store.rs`). That thread alone is asynchronous: it has several
//! requests under way at once, some of them always free for fetches.
//!
//! Nothing is listed, for others' objects may be any number, and nothing is given up for others:
//! how long objects stay is the store's affair. A store that is down costs time and nothing else: so
//! sealed records, which others could not ask for and nobody can encode, have no place in it.

mod misses;
mod outage;
mod store;
mod store_url;

pub use store_url::{StoreUrl, UrlError};

use super::{
    Entry, Figures, Kv, Notice, Origin, Tier,
    queue::{Ending, Job, Queue, Takes},
};
use crate::{Clock, FragmentId};
use std::{
    future::pending,
    io,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};
use store::Store;
use tokio::runtime::{self, Runtime};

/// Where records are shared, and what records they are.
#[derive(Clone, Debug)]
pub struct SharedConfig {
    /// Where the store is. Models share it: each has a folder of its own below.
    pub url: StoreUrl,
    /// Where their KV comes from.
    pub origin: Origin,
    /// Shorter records are neither asked for nor uploaded. [`SHARED_ROWS_MIN`] suits most.
    pub rows_min: usize,
}

/// Encoding fewer rows takes less time than a request.
pub const SHARED_ROWS_MIN: usize = 64;

/// Why a shared store could not be opened. That it does not answer is no reason.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// The folder could not be used.
    #[error("cannot make the folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The settings of the store make no sense together.
    #[error("cannot use {url}: {source}")]
    Settings {
        /// The store.
        url: StoreUrl,
        /// Why not.
        source: object_store::Error,
    },
    /// The machine has no thread to give.
    #[error("cannot start a thread for the shared tier: {0}")]
    Thread(#[source] io::Error),
}

/// How long requests may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeLimits {
    pub(crate) fetch: Duration,
    pub(crate) upload: Duration,
    /// For what is still to be done when the tier is closed.
    pub(crate) close: Duration,
}

/// A tier in a store that others use, too. Dropping it is closing it.
pub struct Shared {
    queue: Arc<Queue>,
    rows_min: usize,
    thread: Option<JoinHandle<()>>,
}

impl Shared {
    /// Opens a store. A folder is made when it is missing; a network is not waited for: when the
    /// store does not answer, that is logged.
    ///
    /// # Errors
    /// The folder cannot be made, or the settings in the environment make no sense.
    pub fn open(config: SharedConfig, clock: Arc<dyn Clock>) -> Result<Self, SharedError> {
        let (objects, prefix) = config.url.open()?;
        let folder = prefix.join(config.origin.folder());
        let store = Store::new((objects, folder), config.origin, clock.clone(), TIME_LIMITS);
        Self::open_over(store, config.rows_min, clock)
    }

    fn open_over(
        store: Store,
        rows_min: usize,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SharedError> {
        let queue = Arc::new(Queue::new(Figures::default()));
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(SharedError::Thread)?;
        let ending = Ending(queue.clone());
        let thread = thread::Builder::new()
            .name("shared tier".into())
            .spawn(move || live(runtime, &ending.0, &store, &*clock))
            .map_err(SharedError::Thread)?;
        Ok(Self { queue, rows_min, thread: Some(thread) })
    }
}

impl Tier for Shared {
    fn entries(&mut self) -> Vec<Entry> {
        Vec::new()
    }

    fn unlisted_rows_min(&self) -> Option<usize> {
        Some(self.rows_min)
    }

    fn keep(&mut self, entry: Entry, kv: Kv) -> bool {
        assert!(!entry.tokens.is_empty(), "a record has tokens");
        if entry.tokens.len() < self.rows_min || entry.sealed.is_some() {
            self.queue.refuse(entry.id);
            return true;
        }
        self.queue.keep(entry, kv)
    }

    fn fetch(&mut self, entry: Entry) {
        self.queue.fetch(entry);
    }

    fn remove(&mut self, id: FragmentId, rows: usize) {
        // Nobody uploads shorter ones: a clock's, dropped at every tick, cost no request.
        if rows >= self.rows_min {
            self.queue.remove(id);
        }
    }

    /// Nothing is given up here, pinned or not.
    fn pin(&mut self, _: FragmentId, _: bool) {}

    fn poll(&mut self) -> Option<Notice> {
        self.queue.poll()
    }

    fn wait(&mut self, timeout: Duration) -> Option<Notice> {
        self.queue.wait(timeout)
    }

    fn figures(&self) -> Figures {
        self.queue.figures()
    }

    fn figures_shared(&self) -> Figures {
        self.figures()
    }

    fn close(&mut self) {
        self.queue.close();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the shared tier's thread panicked; what it had to upload is lost");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

/// The thread's life.
fn live(runtime: Runtime, queue: &Queue, store: &Store, clock: &dyn Clock) {
    let lane = |takes| work(queue, store, clock, takes);
    let all = async {
        tokio::join!(
            lane(Takes::All),
            lane(Takes::All),
            lane(Takes::AllButWrites),
            lane(Takes::AllButWrites)
        )
    };
    let overdue = async {
        queue.closing().await;
        tokio::time::sleep(store.limits().close).await;
    };
    let greeting = async {
        store.greet().await;
        pending::<()>().await;
    };
    runtime.block_on(async {
        tokio::select! {
            _ = all => {}
            () = overdue => tracing::warn!("shared tier: there was no time for all uploads"),
            () = greeting => {}
        }
    });
    // A file system may hang: that must not keep the process from ending.
    runtime.shutdown_background();
}

/// Does one job after the other.
async fn work(queue: &Queue, store: &Store, clock: &dyn Clock, takes: Takes) {
    while let Some(job) = queue.next_of(takes).await {
        let id = job.id();
        let notice = match job {
            Job::Fetch(entry) => {
                let begun = clock.now();
                let kv = store.fetch(&entry).await.map(Arc::new);
                let took = clock.now().saturating_sub(begun);
                Some(kv.map_or(Notice::Lost(id), |kv| Notice::Arrived { id, kv, took }))
            }
            Job::Write(entry, kv) => {
                let is_kept = store.keep(&entry, kv).await;
                Some(if is_kept { Notice::Kept(id) } else { Notice::Gone(id) })
            }
            Job::Remove(id) => {
                store.remove(id).await;
                None
            }
            Job::Expect(_) | Job::Pin(..) => None,
        };
        queue.done(id, notice.into_iter(), store.figures());
    }
}

/// A fetch that takes longer was better encoded; an upload disturbs nobody.
const TIME_LIMITS: TimeLimits = TimeLimits {
    fetch: Duration::from_secs(10),
    upload: Duration::from_mins(1),
    close: Duration::from_secs(20),
};

#[cfg(test)]
mod tests;

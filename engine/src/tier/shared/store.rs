//! The objects of one model: asks for them, uploads and deletes them, within time limits. Runs on
//! the shared tier's thread.
//!
//! An object is put whole or not at all, by whoever has its record, and it does not matter by whom:
//! the same record has the same KV. What does not verify is not served and not deleted, for it may
//! be another's: the next upload of the record takes its place.
//! After a failure nothing is asked for a while (`outage.rs`), and records that are not there are
//! not asked for again at once (`misses.rs`).

use super::{TimeLimits, misses::Misses, outage::Outage};
use crate::{
    Clock, FragmentId,
    tier::{
        Entry, Figures, Kv, Origin,
        record::{Flaw, Form, file_name},
        troubles::Troubles,
    },
};
use bytes::Bytes;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutPayload, path::Path};
use std::{
    cell::{RefCell, RefMut},
    io,
    sync::Arc,
    time::Duration,
};

/// The objects of one model.
pub(crate) struct Store {
    objects: Arc<dyn ObjectStore>,
    folder: Path,
    form: Form,
    clock: Arc<dyn Clock>,
    limits: TimeLimits,
    /// Borrowed between requests only.
    books: RefCell<Books>,
}

struct Books {
    troubles: Troubles,
    misses: Misses,
    reading: Outage,
    writing: Outage,
    refused: u64,
}

/// Why a request brought nothing.
enum Failure {
    Absent,
    Flawed(Flaw),
    Failed(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound { .. } => Self::Absent,
            other => Self::Failed(io::Error::other(other)),
        }
    }
}

impl From<Flaw> for Failure {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Io(error) => Self::Failed(error),
            flaw => Self::Flawed(flaw),
        }
    }
}

/// KV as a part of an upload, not copied.
struct Body(Kv);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Store {
    /// Over objects in a folder. Asks nothing.
    pub(crate) fn new(
        (objects, folder): (Arc<dyn ObjectStore>, Path),
        origin: Origin,
        clock: Arc<dyn Clock>,
        limits: TimeLimits,
    ) -> Self {
        let books = RefCell::new(Books {
            troubles: Troubles::of("shared"),
            misses: Misses::default(),
            reading: Outage::default(),
            writing: Outage::default(),
            refused: 0,
        });
        Self { objects, folder, form: Form::new(origin), clock, limits, books }
    }

    pub(crate) fn limits(&self) -> TimeLimits {
        self.limits
    }

    /// What went wrong. How many objects there are is not known.
    pub(crate) fn figures(&self) -> Figures {
        let books = self.books();
        Figures { refused: books.refused, ..books.troubles.figures() }
    }

    /// The latest trouble.
    #[cfg(test)]
    pub(crate) fn trouble(&self) -> Option<String> {
        self.books().troubles.last.clone()
    }

    /// Finds out whether the store answers, so that the log says so before anybody waits for it.
    pub(crate) async fn greet(&self) {
        let nobody = self.folder.clone().join("greeting");
        match self.within(self.limits.fetch, self.objects.head(&nobody)).await {
            Ok(_) | Err(Failure::Absent) => self.read_succeeded(),
            Err(Failure::Flawed(flaw)) => self.read_failed("a greeting", &io::Error::other(flaw)),
            Err(Failure::Failed(error)) => self.read_failed("a greeting", &error),
        }
    }

    /// Fetches and verifies a record's KV.
    pub(crate) async fn fetch(&self, entry: &Entry) -> Option<Vec<u8>> {
        let (id, now) = (entry.id, self.clock.now());
        if self.books().misses.has(id, now) || self.books().reading.is_on(now) {
            return None;
        }
        let fetched = self.within(self.limits.fetch, self.get(entry)).await;
        let name = file_name(id, false);
        match fetched {
            Ok(kv) => {
                self.read_succeeded();
                return Some(kv);
            }
            Err(Failure::Absent) => {
                self.read_succeeded();
                self.books().misses.note(id, now);
            }
            Err(Failure::Flawed(flaw)) => {
                self.read_succeeded();
                self.books().misses.note(id, now);
                self.books().troubles.set_aside(&name, &flaw.to_string());
            }
            Err(Failure::Failed(error)) => self.read_failed(&name, &error),
        }
        None
    }

    /// Uploads a record, over what is there under its name. `false`: it is not there now.
    pub(crate) async fn keep(&self, entry: &Entry, kv: Kv) -> bool {
        let name = file_name(entry.id, false);
        let head = match self.form.encode(entry, &kv) {
            Ok(head) => head,
            Err(flaw) => {
                tracing::debug!(name, %flaw, "the shared tier refuses a record");
                self.books().refused += 1;
                return false;
            }
        };
        if self.is_writing_paused() {
            self.books().troubles.not_tried();
            return false;
        }
        let payload: PutPayload =
            [Bytes::from(head), Bytes::from_owner(Body(kv))].into_iter().collect();
        let path = self.folder.clone().join(name.as_str());
        let put = self.within(self.limits.upload, self.objects.put(&path, payload)).await;
        self.books().misses.forget(entry.id);
        self.written("upload", &name, put).is_some()
    }

    /// Deletes a record's object, for all servers.
    pub(crate) async fn remove(&self, id: FragmentId) {
        let name = file_name(id, false);
        if self.is_writing_paused() {
            // Somebody wanted it to be gone, and may have to see to it now.
            tracing::warn!("shared tier: {name} is not deleted: the store does not answer");
            return self.books().troubles.not_tried();
        }
        let path = self.folder.clone().join(name.as_str());
        let deleted = match self.within(self.limits.fetch, self.objects.delete(&path)).await {
            Err(Failure::Absent) => Ok(()),
            other => other,
        };
        self.written("delete", &name, deleted);
    }

    async fn get(&self, entry: &Entry) -> Result<Vec<u8>, Failure> {
        let path = self.folder.clone().join(file_name(entry.id, false));
        let found = self.objects.get(&path).await?;
        self.form.check_size(entry, found.meta.size)?;
        let body = found.bytes().await?;
        let mut source = &body[..];
        Ok(self.form.read(&mut source, body.len() as u64, entry)?)
    }

    /// Gives a request so much time.
    async fn within<T, E>(
        &self,
        limit: Duration,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure>
    where
        Failure: From<E>,
    {
        match tokio::time::timeout(limit, request).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Failure::Failed(io::ErrorKind::TimedOut.into())),
        }
    }

    fn is_writing_paused(&self) -> bool {
        self.books().writing.is_on(self.clock.now())
    }

    fn read_succeeded(&self) {
        let mut books = self.books();
        if books.reading.is_over() {
            books.troubles.succeeded();
        }
    }

    fn read_failed(&self, name: &str, error: &io::Error) {
        let now = self.clock.now();
        let mut books = self.books();
        books.troubles.read_failed(name, error);
        books.reading.failed(now);
    }

    /// Takes what came of a request that changes something.
    fn written<T>(&self, deed: &'static str, name: &str, done: Result<T, Failure>) -> Option<T> {
        let now = self.clock.now();
        let mut books = self.books();
        let error = match done {
            Ok(done) => {
                if books.writing.is_over() {
                    books.troubles.succeeded();
                }
                return Some(done);
            }
            Err(Failure::Absent) => io::Error::other("there is no such bucket or folder"),
            Err(Failure::Flawed(flaw)) => io::Error::other(flaw),
            Err(Failure::Failed(error)) => error,
        };
        books.troubles.write_failed(deed, name, &error);
        books.writing.failed(now);
        None
    }

    fn books(&self) -> RefMut<'_, Books> {
        self.books.borrow_mut()
    }
}

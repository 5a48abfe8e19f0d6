//! Feeding: a source is read by a task of its own, and what it reads is pushed into its side context, as
//! a client would, until that is deleted or fed from something else, or the server stops.

use super::{Source, SourceError, SourceSpec};
use crate::{
    ApiError, AppState, blocking,
    limits::SOURCE_BACKOFF_MAX,
    side::{NewEntry, SideContext, SideEvent, push_entry},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, task::AbortHandle};

/// What a side context is fed from, and how that goes.
#[derive(Clone, Debug)]
pub struct Feeding {
    /// Its source.
    pub spec: Arc<SourceSpec>,
    /// When it was last read without a failure, since the Unix epoch.
    pub last_success: Option<Duration>,
    /// Failures in a row.
    pub failures: u32,
    /// The last of all failures.
    pub last_error: Option<String>,
    task: Option<Task>,
}

/// The task that reads a source.
#[derive(Clone, Debug)]
struct Task {
    abort: AbortHandle,
    /// Closed once the task is no more; nothing is ever sent.
    running: watch::Receiver<()>,
}

impl Feeding {
    /// Not begun.
    pub fn new(spec: SourceSpec) -> Self {
        let (last_success, last_error) = (None, None);
        Self { spec: Arc::new(spec), last_success, failures: 0, last_error, task: None }
    }

    /// Reads no more.
    pub(crate) fn stop(&self) {
        if let Some(task) = &self.task {
            task.abort.abort();
        }
    }

    /// Waits until nothing of it runs, once it was stopped.
    async fn ended(self) {
        if let Some(mut task) = self.task {
            while task.running.changed().await.is_ok() {}
        }
    }

    /// A reading went well, or not; failures in a row then.
    fn note(&mut self, read: &Result<(), SourceError>, now: Duration) -> u32 {
        match read {
            Ok(()) => (self.failures, self.last_success) = (0, Some(now)),
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                self.last_error = Some(error.to_string());
            }
        }
        self.failures
    }
}

/// Feeds a side context from `source` once `after`, which was stopped, has ended; unless it is fed from
/// something else by now than what was opened for `spec`.
///
/// # Errors
/// The context is gone.
pub(crate) fn start(
    state: &Arc<AppState>,
    tenant: &Arc<str>,
    id: &str,
    (spec, source): (Arc<SourceSpec>, Source),
    after: Option<Feeding>,
) -> Result<(), ApiError> {
    let fed = Fed { state: Arc::clone(state), tenant: Arc::clone(tenant), id: id.to_owned(), spec };
    let spec = Arc::clone(&fed.spec);
    state.side_contexts.with(tenant, id, |context| {
        let Some(feeding) = context.fed_from(&spec) else { return };
        let (alive, running) = watch::channel(());
        let task = tokio::spawn(async move {
            let _alive = alive;
            if let Some(after) = after {
                after.ended().await;
            }
            fed.read(source).await;
        });
        feeding.task = Some(Task { abort: task.abort_handle(), running });
    })
}

/// A side context and what it is fed from.
#[derive(Clone)]
struct Fed {
    state: Arc<AppState>,
    tenant: Arc<str>,
    id: String,
    spec: Arc<SourceSpec>,
}

impl Fed {
    /// Reads again and again.
    async fn read(self, mut source: Source) {
        loop {
            let read = source.poll().await;
            let fed = self.clone();
            // An error means that the context is gone, or fed from something else.
            let Ok(wait) = blocking(move || fed.take(read)).await else { return };
            tokio::time::sleep(wait).await;
        }
    }

    /// Pushes what was read, and notes how it went; time until the next reading. Blocking.
    ///
    /// # Errors
    /// The context is gone, or fed from something else.
    fn take(&self, read: Result<Vec<String>, SourceError>) -> Result<Duration, ApiError> {
        let taken = read.and_then(|texts| {
            // What follows an entry that is not taken is none the worse.
            let texts = texts.into_iter().take_while(|_| self.with(|_| ()).is_ok());
            let refused: Vec<_> = texts.filter_map(|text| self.push(text).err()).collect();
            let first = refused.first();
            let first = first.map(|error| SourceError::Entry(error.message().to_owned()));
            first.map_or(Ok(()), Err)
        });
        let now = self.state.time.unix();
        let failures = self.with(|context| {
            let failures = context.fed_from(&self.spec).map_or(0, |it| it.note(&taken, now));
            if let Err(error) = taken {
                let message = error.to_string();
                context.events.append(SideEvent::SourceFailed { message, failures });
            }
            failures
        })?;
        Ok(wait(self.spec.every(), failures))
    }

    /// Does something to the context, while it is fed from this.
    fn with<T>(&self, act: impl FnOnce(&mut SideContext) -> T) -> Result<T, ApiError> {
        self.state.side_contexts.with(&self.tenant, &self.id, |context| {
            context.check_fed_from(&self.spec)?;
            Ok(act(context))
        })?
    }

    fn push(&self, text: String) -> Result<(), ApiError> {
        let entry = NewEntry::read(text, Arc::clone(&self.spec));
        push_entry(&self.state, &self.tenant, &self.id, entry).map(drop)
    }
}

/// Time until the next reading: twice as long with every failure in a row, up to 128 times.
fn wait(every: Duration, failures: u32) -> Duration {
    let longer = every.saturating_mul(1 << failures.min(7));
    longer.min(SOURCE_BACKOFF_MAX.max(every))
}

#[cfg(test)]
mod tests;

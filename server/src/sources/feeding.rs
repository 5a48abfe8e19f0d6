//! Feeding: a source is read by a task of its own, and what it reads is pushed into its side context, as
//! a client would, until that is deleted or the server stops.

use super::{Source, SourceError, SourceSpec};
use crate::{
    ApiError, AppState, blocking,
    limits::SOURCE_BACKOFF_MAX,
    side::{NewEntry, SideEvent, push_entry},
};
use std::{sync::Arc, time::Duration};
use tokio::task::AbortHandle;

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
    task: Option<AbortHandle>,
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
            task.abort();
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

/// Feeds a side context from `source` from now on.
pub(crate) fn start(
    state: &Arc<AppState>,
    tenant: &Arc<str>,
    id: &str,
    source: Source,
) -> Result<(), ApiError> {
    let feed = feed(Arc::clone(state), Arc::clone(tenant), id.to_owned(), source);
    let task = tokio::spawn(feed).abort_handle();
    let kept = state.side_contexts.with(tenant, id, |context| {
        if let Some(feeding) = &mut context.feeding {
            feeding.task = Some(task.clone());
        }
    });
    // It may have been deleted already.
    kept.inspect_err(|_| task.abort())
}

async fn feed(state: Arc<AppState>, tenant: Arc<str>, id: String, mut source: Source) {
    loop {
        let read = source.poll().await;
        let (in_state, in_tenant, in_id) = (Arc::clone(&state), Arc::clone(&tenant), id.clone());
        let taken = blocking(move || take(&in_state, &in_tenant, &in_id, read)).await;
        // An error means that the context is gone.
        let Ok(wait) = taken else { return };
        tokio::time::sleep(wait).await;
    }
}

/// Pushes what was read, and notes how it went; time until the next reading. Blocking.
///
/// # Errors
/// The context is gone.
fn take(
    state: &AppState,
    tenant: &Arc<str>,
    id: &str,
    read: Result<Vec<String>, SourceError>,
) -> Result<Duration, ApiError> {
    let taken = read.and_then(|texts| {
        // What follows an entry that is not taken is none the worse.
        let push = |text| push_entry(state, tenant, id, NewEntry::text(text)).err();
        let refused: Vec<_> = texts.into_iter().filter_map(push).collect();
        let first = refused.first().map(|error| SourceError::Entry(error.message().to_owned()));
        first.map_or(Ok(()), Err)
    });
    let now = state.time.unix();
    state.side_contexts.with(tenant, id, |context| {
        let Some(feeding) = &mut context.feeding else { return Duration::MAX };
        let failures = feeding.note(&taken, now);
        let wait = wait(feeding.spec.every(), failures);
        if let Err(error) = taken {
            let message = error.to_string();
            context.events.append(SideEvent::SourceFailed { message, failures });
        }
        wait
    })
}

/// Time until the next reading: twice as long with every failure in a row, up to 128 times.
fn wait(every: Duration, failures: u32) -> Duration {
    let longer = every.saturating_mul(1 << failures.min(7));
    longer.min(SOURCE_BACKOFF_MAX.max(every))
}

#[cfg(test)]
mod tests;

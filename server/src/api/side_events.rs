//! `/v1/side-contexts/{id}/events`: what happens to a side context, as it happens.

use crate::{
    ApiError, AppState, Tenant, Time,
    api::{
        generations::{EventObject, EventsQuery},
        side_sources::SourceObject,
    },
    extract::QueryFields,
    side::{Bound, EventReader, Reading, SideEvent},
    sse,
};
use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, sse::Event},
};
use serde::Serialize;
use std::sync::Arc;

#[derive(Serialize)]
struct ChangedData<'a> {
    version: u64,
    age_ms: f64,
    entries: &'a [u64],
    removed: &'a [u64],
    tokens: usize,
}

#[derive(Serialize)]
struct RolledOffData<'a> {
    version: u64,
    entries: &'a [u64],
    why: &'static str,
    tokens: usize,
}

#[derive(Serialize)]
struct FailedData<'a> {
    message: &'a str,
    failures: u32,
}

#[derive(Serialize)]
struct SourceData {
    source: Option<SourceObject>,
}

#[derive(Serialize)]
struct GapData {
    missed: usize,
}

#[derive(Serialize)]
struct DeletedData<'a> {
    id: &'a str,
}

/// What a stream of events is made of.
struct Stream {
    reader: EventReader,
    id: String,
    time: Time,
    /// It told of the context's end.
    is_over: bool,
}

impl Stream {
    fn render(&mut self, reading: &Reading) -> Event {
        match reading {
            Reading::Gap { missed, last } => {
                numbered(*last, "side_context.gap", GapData { missed: *missed })
            }
            Reading::Event(sequence, event) => self.event(*sequence, event),
        }
    }

    fn event(&mut self, sequence: usize, event: &SideEvent) -> Event {
        match event {
            SideEvent::Changed { version, added, removed, tokens, at } => {
                let data = ChangedData {
                    version: *version,
                    age_ms: self.time.unix().saturating_sub(*at).as_secs_f64() * 1e3,
                    entries: added,
                    removed,
                    tokens: *tokens,
                };
                numbered(sequence, "side_context.changed", data)
            }
            SideEvent::RolledOff { version, entries, why, tokens } => {
                let why = match why {
                    Bound::Tokens => "tokens",
                    Bound::Entries => "entries",
                    Bound::Age => "age",
                };
                let data = RolledOffData { version: *version, entries, why, tokens: *tokens };
                numbered(sequence, "side_context.rolled_off", data)
            }
            SideEvent::SourceFailed { message, failures } => {
                let data = FailedData { message, failures: *failures };
                numbered(sequence, "side_context.source_failed", data)
            }
            SideEvent::SourceChanged { source } => {
                let source = source.as_deref().map(SourceObject::from);
                numbered(sequence, "side_context.source_changed", SourceData { source })
            }
            SideEvent::Deleted => {
                self.is_over = true;
                numbered(sequence, "side_context.deleted", DeletedData { id: &self.id })
            }
        }
    }
}

fn numbered<T: Serialize>(sequence: usize, kind: &'static str, data: T) -> Event {
    sse::event(sequence, kind, &EventObject { kind, sequence_number: sequence, data })
}

/// A side context's events, from the oldest that is held or after the one last seen; live once it has
/// caught up. `side_context.changed`: numbers of the entries that came and were removed, and what it
/// holds then (`age_ms` is how long ago that was when the event was sent). `side_context.rolled_off`:
/// numbers of the entries that went, and the bound they passed (`tokens`, `entries` or `age`).
/// `side_context.source_failed`: what it is fed from could not be read. `side_context.source_changed`:
/// it is fed from this `source` from now on, or from nothing (`null`). `side_context.deleted`: the
/// last. The newest 512 events are held; who comes later than that, or reads too slowly, gets one
/// `side_context.gap` with the number of events that were missed, and reads on from there.
#[utoipa::path(get, path = "/v1/side-contexts/{id}/events",
    operation_id = "read_side_context_events", params(EventsQuery), responses(
    (status = 200, content_type = "text/event-stream", body = String),
    (status = 404, body = crate::error::ErrorBody),
))]
pub async fn events(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
    Path(id): Path<String>,
    QueryFields(query): QueryFields<EventsQuery>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let seen = sse::seen(query.starting_after, &headers)?;
    let reader = state.side_contexts.with(&tenant.0, &id, |context| context.events.read(seen))?;
    let first = Stream { reader, id, time: state.time.clone(), is_over: false };
    Ok(sse::stream_events(Some(first), |stream| async move {
        let mut stream = stream?;
        match stream.reader.next().await {
            Some(reading) => Some((stream.render(&reading), Some(stream))),
            // When the server stops, clients are to come back: only a deletion is the end.
            None => stream.is_over.then(|| (sse::done(), None)),
        }
    }))
}

//! Server-sent events: numbered, resumable, ended by `[DONE]` when nothing can follow.

use crate::{ApiError, Entry, Reader, limits::SSE_KEEP_ALIVE};
use axum::{
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, stream};
use serde::Serialize;
use std::{convert::Infallible, future::Future, str::FromStr};

/// An event: `id:` is the entry's sequence number.
pub fn event(sequence: usize, kind: &str, data: &impl Serialize) -> Event {
    let data = serde_json::to_string(data).expect("wire types have string keys only");
    Event::default().id(sequence.to_string()).event(kind).data(data)
}

/// The stream of a reader's entries, each made an event by `render`, and `[DONE]` after the last.
///
/// The reader lives in the stream: when the client goes away, the connection drops both.
pub fn stream_entries<F>(
    reader: Reader,
    render: F,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + Send>
where
    F: FnMut(&Reader, usize, &Entry) -> Event + Send + 'static,
{
    stream_events(Some((reader, render)), |state| async move {
        let (mut reader, mut render) = state?;
        match reader.next().await {
            Some((sequence, entry)) => {
                let event = render(&reader, sequence, &entry);
                Some((event, Some((reader, render))))
            }
            None => Some((done(), None)),
        }
    })
}

/// The last event of a stream.
pub fn done() -> Event {
    Event::default().data("[DONE]")
}

/// The stream of the events that `next` makes of a state, until it makes none.
pub fn stream_events<S, F, N>(
    first: S,
    mut next: F,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + Send>
where
    S: Send + 'static,
    F: FnMut(S) -> N + Send + 'static,
    N: Future<Output = Option<(Event, S)>> + Send + 'static,
{
    let events = stream::unfold(first, move |state| {
        let next = next(state);
        async move { next.await.map(|(event, state)| (Ok(event), state)) }
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(SSE_KEEP_ALIVE))
}

/// The number of the last event that a client saw: what the query says, else the `Last-Event-ID`
/// header, which browsers send by themselves.
///
/// # Errors
/// 400: the header holds no number.
pub fn seen<T: FromStr>(query: Option<T>, headers: &HeaderMap) -> Result<Option<T>, ApiError> {
    let header = headers.get("last-event-id").map(|value| {
        let text = value.to_str().unwrap_or_default();
        text.parse::<T>().map_err(|_| {
            let message = format!("Last-Event-ID is {text:?}; it must be an event's number");
            ApiError::bad_request("Last-Event-ID", message)
        })
    });
    Ok(query.or(header.transpose()?))
}

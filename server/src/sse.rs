//! Server-sent events of a generation: numbered, resumable, ended by `[DONE]`.

use crate::{Entry, Reader, limits::SSE_KEEP_ALIVE};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, stream};
use serde::Serialize;
use std::convert::Infallible;

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
    let events = stream::unfold(Some((reader, render)), |state| async move {
        let (mut reader, mut render) = state?;
        match reader.next().await {
            Some((sequence, entry)) => {
                let event = render(&reader, sequence, &entry);
                Some((Ok(event), Some((reader, render))))
            }
            None => Some((Ok(Event::default().data("[DONE]")), None)),
        }
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(SSE_KEEP_ALIVE))
}

//! Answers of the OpenAI shim: waited for, or written as OpenAI's server-sent events.
//!
//! Frames are `data: <json>`; the last is `data: [DONE]`. What goes wrong after the headers are
//! out is a frame with a top-level `error`, after which the stream ends without `[DONE]`, as
//! OpenAI's clients expect. Dropping a stream drops its readers, which cancels its generations.

use crate::{ApiError, Entry, Reader, Snapshot, limits::SSE_KEEP_ALIVE};
use axum::{
    http::StatusCode,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event as Frame, KeepAlive},
    },
};
use engine::{FinishReason, RequestError, Summary};
use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use std::{convert::Infallible, sync::Arc};

/// Waits for the end of a generation.
pub(super) async fn collect(reader: Reader) -> Result<(Snapshot, Summary), ApiError> {
    let mut snapshot = reader.finish().await;
    match (snapshot.summary.take(), snapshot.error.take()) {
        (_, Some(error)) => Err(error.into()),
        (Some(summary), None) if summary.finish_reason == FinishReason::Cancelled => {
            Err(cancelled())
        }
        (Some(summary), None) => Ok((snapshot, summary)),
        (None, None) => Err(ended_early()),
    }
}

/// Turns the log entries of one or more generations into frames.
pub(super) trait Writer: Send + 'static {
    /// Frames before the first entry.
    fn open(&mut self) -> Vec<String>;
    /// Frames for an entry of generation `index`; never given `Failed`.
    fn entry(&mut self, index: usize, entry: &Entry) -> Vec<String>;
    /// Frames after the last entry of the last generation.
    fn close(&mut self) -> Vec<String>;
}

/// Streams generations through `writer`.
pub(super) fn respond(readers: Vec<Reader>, writer: impl Writer) -> Response {
    let sources = readers.into_iter().enumerate().map(|(index, reader)| {
        let entries = stream::unfold(reader, |mut reader| async move {
            reader.next().await.map(|(_, entry)| (entry, reader))
        });
        entries.map(move |entry| (index, entry)).boxed()
    });
    let frames = frames(sources.collect(), writer)
        .map(|data| Ok::<_, Infallible>(Frame::default().data(data)));
    Sse::new(frames).keep_alive(KeepAlive::new().interval(SSE_KEEP_ALIVE)).into_response()
}

/// One frame's data.
pub(super) fn to_json(frame: &impl Serialize) -> String {
    serde_json::to_string(frame).expect("wire types have string keys and no failing serializer")
}

type Entries = stream::BoxStream<'static, (usize, Arc<Entry>)>;

/// The data of every frame.
fn frames(sources: Vec<Entries>, mut writer: impl Writer) -> impl Stream<Item = String> + Send {
    let opening = writer.open();
    let running = sources.len();
    let state = Some((stream::select_all(sources), writer, running));
    let rest = stream::unfold(state, |state| async move {
        let (mut entries, mut writer, running) = state?;
        let Some((index, entry)) = entries.next().await else {
            return Some((vec![error_frame(&ended_early())], None));
        };
        let running = running - usize::from(entry.is_end());
        match &*entry {
            Entry::Failed(error) => Some((vec![error_frame(&error.clone().into())], None)),
            Entry::Finished(summary) if summary.finish_reason == FinishReason::Cancelled => {
                Some((vec![error_frame(&cancelled())], None))
            }
            entry => {
                let mut data = writer.entry(index, entry);
                if running > 0 {
                    return Some((data, Some((entries, writer, running))));
                }
                data.extend(writer.close());
                data.push("[DONE]".to_owned());
                Some((data, None))
            }
        }
    });
    stream::iter(opening).chain(rest.flat_map(stream::iter))
}

fn error_frame(error: &ApiError) -> String {
    to_json(&error.body())
}

/// The log ended without a last word.
fn ended_early() -> ApiError {
    RequestError::EngineDown("the generation ended without a result".to_owned()).into()
}

/// OpenAI has no word for an answer that was cut off from outside, and `stop` would be a lie.
fn cancelled() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the generation was cancelled before its end")
        .with_code("cancelled")
}

#[cfg(test)]
mod tests {
    use super::{Entries, Writer, frames};
    use crate::Entry;
    use engine::{Counts, FinishReason, JoinPolicy, RequestError, Summary, Timings};
    use futures::{StreamExt, executor::block_on, stream};
    use std::sync::Arc;

    /// Names what it is given.
    struct Names;

    impl Writer for Names {
        fn open(&mut self) -> Vec<String> {
            vec!["open".to_owned()]
        }

        fn entry(&mut self, index: usize, entry: &Entry) -> Vec<String> {
            match entry {
                Entry::Text(text) => vec![format!("{index}:{text}")],
                Entry::Finished(_) => vec![format!("{index}:end")],
                _ => Vec::new(),
            }
        }

        fn close(&mut self) -> Vec<String> {
            vec!["close".to_owned()]
        }
    }

    fn finished(finish_reason: FinishReason) -> Entry {
        let (counts, timings) = (Counts::default(), Timings::default());
        let policy = JoinPolicy::Recompute;
        Entry::Finished(Summary {
            finish_reason,
            policy,
            exact: true,
            counts,
            recomputed_share: 0.0,
            selected: [].into(),
            sealed: None,
            timings,
        })
    }

    fn check(logs: Vec<Vec<Entry>>, expected: &[&str]) {
        let sources: Vec<Entries> = logs
            .into_iter()
            .enumerate()
            .map(|(index, log)| {
                stream::iter(log).map(move |entry| (index, Arc::new(entry))).boxed()
            })
            .collect();
        let mut got: Vec<String> = block_on(frames(sources, Names).collect());
        got.sort_by_key(|frame| frame.chars().next().filter(char::is_ascii_digit));
        let mut wanted: Vec<&str> = expected.to_vec();
        wanted.sort_by_key(|frame| frame.chars().next().filter(char::is_ascii_digit));
        assert_eq!(got, wanted);
    }

    #[test]
    fn a_stream_ends_once_however_many_generations_it_has() {
        let text = |text: &str| Entry::Text(text.to_owned());
        let stop = || finished(FinishReason::Stop);
        check(
            vec![vec![Entry::Created, text("a"), stop()]],
            &["open", "0:a", "0:end", "close", "[DONE]"],
        );
        check(
            vec![vec![text("a"), stop()], vec![text("b"), stop()]],
            &["open", "0:a", "0:end", "1:b", "1:end", "close", "[DONE]"],
        );
    }

    #[test]
    fn an_error_is_the_last_frame() {
        let down = Entry::Failed(RequestError::EngineDown("x".to_owned()));
        let error = r#"{"error":{"message":"the engine is not running: x","type":"server_error","param":null,"code":"engine_down"}}"#;
        check(vec![vec![Entry::Text("a".to_owned()), down]], &["open", "0:a", error]);
        let cut = r#"{"error":{"message":"the generation was cancelled before its end","type":"server_error","param":null,"code":"cancelled"}}"#;
        check(vec![vec![finished(FinishReason::Cancelled)]], &["open", cut]);
        let early = r#"{"error":{"message":"the engine is not running: the generation ended without a result","type":"server_error","param":null,"code":"engine_down"}}"#;
        check(vec![Vec::new()], &["open", early]);
    }
}

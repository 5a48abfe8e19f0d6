//! How an answer is given: at once, as a stream, in the background, or several of them.

use crate::{
    ApiError, AppState, Entry, Options, Reader,
    api::generations::{GenerationObject, stream},
    blocking,
    limits::ANSWERS_MAX,
};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use engine::{Request, Sampling};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) streamed: bool,
    pub(crate) background: bool,
    /// Answers.
    pub(crate) n: usize,
}

/// Several answers to one request, with `n` over 1.
#[derive(Debug, Serialize, ToSchema)]
pub struct GenerationList {
    /// `list`.
    pub object: &'static str,
    /// One for each seed, from the request's own upwards.
    pub data: Vec<GenerationObject>,
}

impl Delivery {
    /// Checks what was asked for together.
    pub(crate) fn new(
        streamed: Option<bool>,
        background: Option<bool>,
        n: Option<i64>,
    ) -> Result<Self, ApiError> {
        let n = answers(n)?;
        let streamed = streamed.unwrap_or(false);
        if streamed && n > 1 {
            let message = format!(
                "n is {n}; a stream is of one answer: ask for several with `background`, and read the \
                 events of each"
            );
            return Err(ApiError::bad_request("n", message));
        }
        Ok(Self { streamed, background: background.unwrap_or(false), n })
    }

    /// Runs the request, and answers as was asked for.
    pub(crate) async fn answer(
        self,
        state: &Arc<AppState>,
        request: Request,
        options: Options,
    ) -> Result<Response, ApiError> {
        let mut readers = begin(state, request, options, self.n).await?;
        if self.streamed {
            let reader = readers.pop().expect("a stream is of one answer");
            return Ok(stream(state, reader).into_response());
        }
        let mut answers = Vec::with_capacity(readers.len());
        for reader in readers {
            let generation = Arc::clone(reader.generation());
            let snapshot =
                if self.background { generation.snapshot() } else { reader.finish().await };
            if let Some(error) = snapshot.error.clone().filter(|_| !self.background) {
                return Err(error.into());
            }
            answers.push(GenerationObject::new(state, &generation, snapshot));
        }
        let status = if self.background { StatusCode::ACCEPTED } else { StatusCode::OK };
        Ok(if self.n == 1 {
            (status, Json(answers.pop())).into_response()
        } else {
            (status, Json(GenerationList { object: "list", data: answers })).into_response()
        })
    }
}

/// How many answers are asked for.
pub(crate) fn answers(n: Option<i64>) -> Result<usize, ApiError> {
    Ok(super::generate::integer("n", n, 1, ANSWERS_MAX as i64)?.unwrap_or(1))
}

/// Starts `n` generations with seeds that follow each other. The others begin when the first has its
/// first token: they take over its tail instead of prefilling it again.
pub(crate) async fn begin(
    state: &Arc<AppState>,
    request: Request,
    options: Options,
    n: usize,
) -> Result<Vec<Reader>, ApiError> {
    let start = async |request: Request, options: Options| {
        let state = Arc::clone(state);
        blocking(move || state.generations.start(request, options)).await
    };
    if n == 1 {
        return Ok(vec![start(request, options).await?]);
    }
    let first = start(request.clone(), options.clone()).await?;
    let generation = Arc::clone(first.generation());
    let mut watch = Reader::attach(Arc::clone(&generation), 0);
    while let Some((_, entry)) = watch.next().await {
        if matches!(*entry, Entry::Token { .. }) {
            break;
        }
    }
    let selected = generation.chosen().or(request.selected.clone());
    let mut readers = vec![first];
    for i in 1..n {
        let seed = request.sampling.seed.wrapping_add(i as u64);
        let sampling = Sampling { seed, ..request.sampling.clone() };
        let request = Request { sampling, selected: selected.clone(), ..request.clone() };
        readers.push(start(request, options.clone()).await?);
    }
    Ok(readers)
}

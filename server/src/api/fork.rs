//! `POST /v1/generations/{id}/fork`: go on from where a generation is, or was, in another way.
//!
//! A fork is the generation's request with its answer at the end of the tail. While the generation
//! runs, the engine lets the fork take over its rows: whole pages are shared, the last is copied. Where
//! side contexts were swapped, it stands over what stood at that token; rows that saw one thing and then
//! another are not taken over.

use crate::{
    ApiError, AppState, Generation, JsonBody, Options, Snapshot, Tenant,
    api::{
        compose::{PartBody, further_turns},
        deliver::Delivery,
        generate::{integer, number},
        generations::GenerationObject,
    },
    blocking, random_seed,
    standing::Standing,
};
use axum::{
    extract::{Path, State},
    response::Response,
};
use engine::{Request, Seal};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// How to go on. What is absent is as it was asked for. A side context that was bound live begins as it
/// stood at the token that is gone on from, whatever has become of it, and its newest version takes its
/// place as in any other generation.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkBody {
    /// Tokens of the answer to keep (default: all there are).
    pub at: Option<i64>,
    /// Turns put after what is kept of the answer, whose turn is closed first.
    pub tail: Option<Vec<PartBody>>,
    /// Side contexts that were bound live stay so (default: true); false keeps them as they stood.
    pub live: Option<bool>,
    /// Tokens to generate at most.
    pub max_tokens: Option<i64>,
    /// 0 is greedy; at most 2.
    pub temperature: Option<f64>,
    /// Drawn, and told in the result, when absent.
    pub seed: Option<u64>,
    /// Answers, with seeds that follow each other (default: 1).
    pub n: Option<i64>,
    /// Answer with server-sent events (default: false).
    pub stream: Option<bool>,
    /// Go on when nobody reads; without `stream`, answer at once with 202 (default: false).
    pub background: Option<bool>,
}

impl ForkBody {
    /// The fork's own request. Blocking.
    fn request(&self, state: &AppState, from: &Generation) -> Result<(Request, Options), ApiError> {
        let Snapshot { tokens: so_far, swaps, .. } = from.snapshot();
        let at = integer("at", self.at, 0, so_far.len() as i64)?.unwrap_or(so_far.len());
        let swaps = swaps.iter().filter(|(_, then)| *then <= at).map(|(swapped, _)| swapped);
        let Standing { placements, fragments, mut bindings } = Standing::after(from, swaps);
        if self.live == Some(false) {
            bindings.clear();
        }
        let mut request = from.request().clone();
        request.composition.placements = placements;
        request.selected = from.chosen().or(request.selected);
        let tail = &mut request.composition.tail;
        tail.extend(&so_far[..at]);
        let mut opens_turn = from.opens_turn();
        if let Some(parts) = &self.tail {
            if opens_turn {
                tail.extend(state.turns.end_of_answer());
            }
            let (more, opens) = further_turns(state, parts)?;
            tail.extend(more);
            opens_turn = opens;
        }
        let closing = if opens_turn { state.turns.end_of_answer() } else { Vec::new() };
        request.seal = request.seal.map(|_| Seal { closing });
        let context_max = state.engine.shape().context_max as i64;
        let max_tokens = integer("max_tokens", self.max_tokens, 0, context_max)?;
        request.max_tokens = max_tokens.unwrap_or(request.max_tokens);
        let sampling = &mut request.sampling;
        sampling.forced.clear();
        sampling.seed = self.seed.unwrap_or_else(random_seed);
        let given = f64::from(sampling.temperature);
        sampling.temperature = number("temperature", self.temperature, given, 0.0, 2.0)?;
        let background = self.background.unwrap_or(false);
        Ok((request, Options { background, opens_turn, fragments, bindings }))
    }
}

/// Goes on from a generation, running or ended.
#[utoipa::path(post, path = "/v1/generations/{id}/fork", operation_id = "fork_generation",
    request_body = ForkBody, responses(
    (status = 200, body = GenerationObject, description = "As from `/v1/generate`"),
    (status = 202, body = GenerationObject, description = "With `background`: it has begun"),
    (status = 400, body = crate::error::ErrorBody),
    (status = 404, body = crate::error::ErrorBody),
    (status = 429, body = crate::error::ErrorBody, description = "Too many requests wait"),
))]
pub async fn fork(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<ForkBody>,
) -> Result<Response, ApiError> {
    let delivery = Delivery::new(body.stream, body.background, body.n)?;
    let from = state.generations.get(&tenant, &id)?;
    let shared = Arc::clone(&state);
    let (request, options) = blocking(move || body.request(&shared, &from)).await?;
    delivery.answer(&state, request, options).await
}

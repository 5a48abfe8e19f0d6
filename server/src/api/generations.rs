//! `/v1/generations/{id}`: status, events, cancel; and the objects that `/v1/generate` answers.

use crate::{
    ApiError, AppState, Entry, FragmentUse, Generation, Reader, Snapshot, Status, Swapped, Tenant,
    error::ErrorObject, extract::QueryFields, limits::CANCEL_TIMEOUT, sse, standing::Standing,
};
use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, sse::Event},
};
use engine::{FinishReason, JoinPolicy, Summary, TokenLogprob};
use models::TokenId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// A generation.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GenerationObject {
    /// `gen_..`.
    pub id: String,
    /// `generation`.
    pub object: &'static str,
    /// When it was asked for, in Unix seconds.
    pub created: u64,
    /// The model's name.
    pub model: String,
    /// Where it stands.
    pub status: Status,
    /// The answer so far.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<TokenId>,
    /// `stop`, `length`, `context` (no position was left) or `cancelled`, once it ended.
    pub finish_reason: Option<&'static str>,
    /// With the request, enough to run it again to the token.
    pub seed: u64,
    /// What became of the composition's tokens.
    pub join: JoinObject,
    /// The composition's fragments, in order.
    pub fragments: Vec<FragmentUseObject>,
    /// Tokens in OpenAI's counts, once it ended.
    pub usage: Option<UsageObject>,
    /// Durations, once it ended.
    pub timings: Option<TimingsObject>,
    /// The fragment that the tail and the answer became, with `seal`, once it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// Newer versions of live side contexts that came into the composition, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub swaps: Vec<SwapObject>,
    /// Scores of `tokens`, with `logprobs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<LogprobObject>>,
    /// Scores of the tail's tokens from the second on, with `echo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail_logprobs: Option<Vec<LogprobObject>>,
    /// The most likely tokens after the tail, with `echo`: `[id, log-probability]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_top: Option<Vec<(TokenId, f32)>>,
    /// Why it failed.
    pub error: Option<ErrorObject>,
}

/// What became of the tokens of a composition. Counts come when the generation has ended.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct JoinObject {
    /// The policy.
    pub policy: &'static str,
    /// Its parameters, by name.
    #[serde(flatten)]
    #[schema(value_type = std::collections::BTreeMap<String, f64>)]
    pub parameters: serde_json::Map<String, serde_json::Value>,
    /// The answer is what plain concatenation would have computed.
    pub exact: Option<bool>,
    /// Root tokens.
    pub root_tokens: Option<usize>,
    /// Fragment tokens whose KV was cached before this call.
    pub reused_tokens: Option<usize>,
    /// Fragment tokens that this call encoded because they were not cached.
    pub encoded_tokens: Option<usize>,
    /// Fragment tokens computed again for this composition alone.
    pub recomputed_tokens: Option<usize>,
    /// Tail tokens.
    pub tail_tokens: Option<usize>,
    /// Root and tail tokens whose KV came from a cache.
    pub prefix_reused_tokens: Option<usize>,
    /// Generated tokens.
    pub output_tokens: Option<usize>,
    /// Rows times layers whose Q, K and V were computed for this composition alone, choosing
    /// them included, over fragment rows times layers.
    pub recomputed_share: Option<f64>,
    /// Rows computed again that were chosen by scores or given, by their positions in the
    /// sequential composition; absent under policies that choose none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selected: Option<Vec<u32>>,
}

/// A fragment in a composition.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FragmentUseObject {
    /// Its id under this composition's root. A policy that recomputes it does not encode it.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// Its length in tokens.
    pub tokens: usize,
    /// The fragment asked for was put under another root: its tokens were used under this
    /// composition's root, where they are another fragment, with the id above.
    pub other_root: bool,
    /// The side context that it is a piece of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<SideUseObject>,
}

/// A side context in a composition.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SideUseObject {
    /// `sc_..`.
    pub id: String,
    /// Its version.
    pub version: u64,
    /// Milliseconds from its latest change to the first token, once that is there.
    pub staleness_ms: Option<f64>,
}

/// A newer version of a side context in a running generation.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SwapObject {
    /// `sc_..`.
    pub side: String,
    /// The version that stands there from then on.
    pub version: u64,
    /// Its tokens: what was encoded for it, at most.
    pub tokens: usize,
    /// Tokens of the answer that were there before: the next one is the first that may know. 0: the
    /// generation still waited for its place, and was composed anew.
    pub at_token: usize,
    /// Milliseconds from the change to the swap.
    pub staleness_ms: f64,
}

impl SwapObject {
    fn new(swapped: &Swapped, at_token: usize) -> Self {
        Self {
            side: swapped.side.clone(),
            version: swapped.version,
            tokens: swapped.tokens(),
            at_token,
            staleness_ms: swapped.age.as_secs_f64() * 1e3,
        }
    }
}

/// OpenAI's counts.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct UsageObject {
    /// Root, fragments and tail.
    pub prompt_tokens: usize,
    /// Generated.
    pub completion_tokens: usize,
    /// Their sum.
    pub total_tokens: usize,
}

/// Durations in milliseconds.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct TimingsObject {
    /// Waiting for a place.
    pub queue_ms: f64,
    /// Encoding fragments that were not cached.
    pub compose_ms: f64,
    /// Building the table.
    pub join_ms: f64,
    /// Recomputing rows a policy asked for.
    pub repair_ms: f64,
    /// Forwarding the tail (under `recompute`: everything not cached).
    pub prefill_ms: f64,
    /// From the request to the first token.
    pub first_token_ms: f64,
    /// Output tokens after the first, per second.
    pub decode_tokens_per_second: f64,
}

/// A token's natural-log probability and the best alternatives.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LogprobObject {
    /// The token.
    pub token: TokenId,
    /// Its log-probability.
    pub logprob: f32,
    /// `[id, log-probability]`, best first.
    pub top: Vec<(TokenId, f32)>,
}

impl From<&TokenLogprob> for LogprobObject {
    fn from(score: &TokenLogprob) -> Self {
        Self { token: score.token, logprob: score.logprob, top: score.top.clone() }
    }
}

impl GenerationObject {
    /// A generation as `snapshot` has it.
    pub(crate) fn new(state: &AppState, generation: &Generation, snapshot: Snapshot) -> Self {
        let scores = |scores: &[TokenLogprob]| scores.iter().map(LogprobObject::from).collect();
        let summary = snapshot.summary.as_ref();
        let error = snapshot.error.map(|error| ApiError::from(error).body().error);
        // What stood there when the first token was made.
        let anew = snapshot.swaps.iter().filter(|(_, at)| *at == 0).map(|(swapped, _)| swapped);
        let placed = Standing::after(generation, anew).fragments;
        let tokens = |placed: &[FragmentUse]| placed.iter().map(|used| used.tokens).sum::<usize>();
        let prompt_tokens =
            generation.prompt_tokens + tokens(&placed) - tokens(&generation.fragments);
        let used = placed.iter().map(|used| FragmentUseObject {
            id: used.id.to_string(),
            name: used.name.clone(),
            tokens: used.tokens,
            other_root: used.other_root,
            side: used.side.as_ref().map(|side| SideUseObject {
                id: side.id.clone(),
                version: side.version,
                staleness_ms: summary.map(|summary| {
                    let to = generation.began.as_secs_f64() * 1e3 + summary.timings.first_token_ms;
                    (to - side.changed.as_secs_f64() * 1e3).max(0.0)
                }),
            }),
        });
        Self {
            id: generation.id.clone(),
            object: "generation",
            created: generation.began.as_secs(),
            model: state.model.id.clone(),
            status: snapshot.status,
            text: snapshot.text,
            tokens: snapshot.tokens,
            finish_reason: summary.map(|summary| finish_reason(summary.finish_reason)),
            seed: generation.seed,
            join: JoinObject::new(generation.policy, summary),
            fragments: used.collect(),
            usage: summary.map(|summary| {
                let completion_tokens = summary.counts.output;
                UsageObject::new(prompt_tokens, completion_tokens)
            }),
            timings: summary.map(timings),
            sealed: summary.and_then(|summary| summary.sealed).map(|id| id.to_string()),
            swaps: snapshot
                .swaps
                .iter()
                .map(|(swapped, at)| SwapObject::new(swapped, *at))
                .collect(),
            logprobs: generation.logprobs.map(|_| scores(&snapshot.logprobs)),
            tail_logprobs: snapshot.tail_logprobs.as_deref().map(scores),
            next_top: snapshot.next_top,
            error,
        }
    }
}

impl JoinObject {
    pub(crate) fn new(policy: JoinPolicy, summary: Option<&Summary>) -> Self {
        let counts = summary.map(|summary| summary.counts);
        Self {
            policy: policy.form().name,
            parameters: parameters(&policy),
            exact: summary.map(|summary| summary.exact),
            root_tokens: counts.map(|counts| counts.root),
            reused_tokens: counts.map(|counts| counts.reused),
            encoded_tokens: counts.map(|counts| counts.encoded),
            recomputed_tokens: counts.map(|counts| counts.recomputed),
            tail_tokens: counts.map(|counts| counts.tail),
            prefix_reused_tokens: counts.map(|counts| counts.prefix_reused),
            output_tokens: counts.map(|counts| counts.output),
            recomputed_share: summary.map(|summary| summary.recomputed_share),
            selected: summary.filter(|s| !s.selected.is_empty()).map(|s| s.selected.to_vec()),
        }
    }
}

/// A policy's parameters as JSON: whole numbers as such.
pub(crate) fn parameters(policy: &JoinPolicy) -> serde_json::Map<String, serde_json::Value> {
    let json = |(parameter, value): (&engine::Parameter, f64)| {
        let whole = parameter.is_whole.then_some(value as u64);
        let value = whole.map_or_else(|| value.into(), serde_json::Value::from);
        (parameter.name.to_owned(), value)
    };
    policy.values().map(json).collect()
}

/// The wire's word for an end.
pub fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Context => "context",
        FinishReason::Cancelled => "cancelled",
    }
}

impl UsageObject {
    fn new(prompt_tokens: usize, completion_tokens: usize) -> Self {
        let total_tokens = prompt_tokens + completion_tokens;
        Self { prompt_tokens, completion_tokens, total_tokens }
    }
}

pub(crate) fn timings(summary: &Summary) -> TimingsObject {
    let timings = summary.timings;
    TimingsObject {
        queue_ms: timings.queue_ms,
        compose_ms: timings.compose_ms,
        join_ms: timings.join_ms,
        repair_ms: timings.repair_ms,
        prefill_ms: timings.prefill_ms,
        first_token_ms: timings.first_token_ms,
        decode_tokens_per_second: timings.decode_tokens_per_second,
    }
}

/// Every event's data: its number and kind, and what it tells.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EventObject<T> {
    /// The event's name, as in `event:`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The event's number, as in `id:`.
    pub sequence_number: usize,
    /// What it tells.
    #[serde(flatten)]
    pub data: T,
}

#[derive(Serialize)]
struct TokenData<'a> {
    token: Option<TokenId>,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprob: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<&'a [(TokenId, f32)]>,
}

#[derive(Serialize)]
struct ScoredData<'a> {
    tail_logprobs: Vec<LogprobObject>,
    next_top: &'a [(TokenId, f32)],
}

#[derive(Serialize)]
struct RestartData {
    at_token: usize,
}

#[derive(Serialize)]
struct GenerationData {
    generation: GenerationObject,
}

/// A reader's entries as events: `generation.created`, `generation.scored`, `generation.token`,
/// `generation.text`, `generation.swapped`, `generation.restarted`, then `generation.completed`,
/// `generation.cancelled` or `error`.
pub(crate) fn stream(state: &Arc<AppState>, reader: Reader) -> impl IntoResponse + use<> {
    let state = Arc::clone(state);
    sse::stream_entries(reader, move |reader, sequence, entry| {
        event(&state, reader.generation(), sequence, entry)
    })
}

fn event(state: &AppState, generation: &Generation, sequence: usize, entry: &Entry) -> Event {
    let whole = |snapshot| GenerationData {
        generation: GenerationObject::new(state, generation, snapshot),
    };
    match entry {
        Entry::Created => {
            let data = whole(Snapshot::fold(&[]));
            numbered(sequence, "generation.created", data)
        }
        Entry::Scored { tail, next_top } => {
            let tail_logprobs = tail.iter().map(LogprobObject::from).collect();
            numbered(sequence, "generation.scored", ScoredData { tail_logprobs, next_top })
        }
        Entry::Token { token, text, logprob } => {
            let (logprob, top) =
                (logprob.as_ref().map(|l| l.logprob), logprob.as_ref().map(|l| &*l.top));
            let data = TokenData { token: Some(*token), text, logprob, top };
            numbered(sequence, "generation.token", data)
        }
        Entry::Swapped { swapped, at } => {
            numbered(sequence, "generation.swapped", SwapObject::new(swapped, *at))
        }
        Entry::Restarted { at } => {
            numbered(sequence, "generation.restarted", RestartData { at_token: *at })
        }
        Entry::Text(text) => {
            let data = TokenData { token: None, text, logprob: None, top: None };
            numbered(sequence, "generation.text", data)
        }
        Entry::Finished(summary) => {
            let kind = match summary.finish_reason {
                FinishReason::Cancelled => "generation.cancelled",
                _ => "generation.completed",
            };
            numbered(sequence, kind, whole(generation.snapshot()))
        }
        Entry::Failed(error) => numbered(sequence, "error", ApiError::from(error.clone()).body()),
    }
}

fn numbered<T: Serialize>(sequence: usize, kind: &'static str, data: T) -> Event {
    sse::event(sequence, kind, &EventObject { kind, sequence_number: sequence, data })
}

/// Where to go on reading.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// The number of the last event already seen; the `Last-Event-ID` header says the same.
    pub starting_after: Option<usize>,
}

/// A generation as it stands.
#[utoipa::path(get, path = "/v1/generations/{id}", operation_id = "get_generation",
    responses(
    (status = 200, body = GenerationObject),
    (status = 404, body = crate::error::ErrorBody),
))]
pub async fn get(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
    Path(id): Path<String>,
) -> Result<Json<GenerationObject>, ApiError> {
    let generation = state.generations.get(&tenant, &id)?;
    Ok(Json(GenerationObject::new(&state, &generation, generation.snapshot())))
}

/// A generation's events from the first, or after the one last seen; live once it has caught up.
#[utoipa::path(get, path = "/v1/generations/{id}/events", operation_id = "read_generation_events",
    params(EventsQuery), responses(
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
    let generation = state.generations.get(&tenant, &id)?;
    let seen = sse::seen(query.starting_after, &headers)?;
    let next = seen.map_or(0, |seen| seen.saturating_add(1));
    Ok(stream(&state, Reader::attach(generation, next)))
}

/// Ends a generation within a step, and answers with what became of it.
#[utoipa::path(post, path = "/v1/generations/{id}/cancel", operation_id = "cancel_generation",
    responses(
    (status = 200, body = GenerationObject),
    (status = 404, body = crate::error::ErrorBody),
))]
pub async fn cancel(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
    Path(id): Path<String>,
) -> Result<Json<GenerationObject>, ApiError> {
    let generation = state.generations.get(&tenant, &id)?;
    generation.cancel();
    let end = Reader::attach(Arc::clone(&generation), 0).finish();
    let snapshot = match tokio::time::timeout(CANCEL_TIMEOUT, end).await {
        Ok(snapshot) => snapshot,
        Err(_) => generation.snapshot(),
    };
    Ok(Json(GenerationObject::new(&state, &generation, snapshot)))
}

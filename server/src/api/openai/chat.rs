//! `POST /v1/chat/completions`: a chat through the model's template, exact unless asked otherwise.
//!
//! Without `cento` the prompt is the template's own tokens for the messages, under policy
//! `recompute`. With `cento.compose` the leading system message is the root, the named pieces
//! stand after it, and the other messages are the tail.

use super::{
    check_model,
    extension::{CentoOptions, CentoReport, Prompt},
    fields::{
        Fields, Limited, is_empty, is_free_tool_choice, is_text_format, is_text_only, refuse,
    },
    fingerprint,
    logprobs::ChatLogprobs,
    messages::{ChatMessage, messages},
    sampling::{
        StreamOptions, Usage, answer_max, asked_max, finish_reason, include_usage, top_logprobs,
    },
    stream::{Writer, collect, respond, to_json},
};
use crate::{
    ApiError, AppState, Entry, JsonBody, Options, Reader, Snapshot, Tenant,
    api::{
        deliver::{answers, begin},
        generate::{SamplingFields, StopBody},
        priority::{ServiceTier, priority},
    },
    blocking,
    error::ErrorBody,
};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use engine::{Composition, Request, Sampling, Summary, TokenLogprob};
use models::{Message, Tokenizer, Turns};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use utoipa::ToSchema;

/// Fields taken beside those of [`ChatRequest`].
pub const FIELDS: Fields = Fields {
    ignored: &[
        ("user", "nothing is kept per user"),
        ("safety_identifier", "nothing is kept per user"),
        ("metadata", "answers are not stored"),
        ("store", "answers are not stored"),
        ("parallel_tool_calls", "there are no tool calls"),
        ("prediction", "a hint about speed"),
        ("prompt_cache_key", "the cache finds prefixes by their tokens"),
        ("prompt_cache_retention", "the cache keeps what fits"),
        ("prompt_cache_options", "the cache keeps what fits"),
    ],
    limited: &[
        Limited { name: "logit_bias", accepts: is_empty, why: "biases are not supported yet" },
        Limited { name: "tools", accepts: is_empty, why: "tool calls are not supported yet" },
        Limited { name: "functions", accepts: is_empty, why: "tool calls are not supported yet" },
        Limited {
            name: "tool_choice",
            accepts: is_free_tool_choice,
            why: "tool calls are not supported yet; only \"none\" and \"auto\" are taken",
        },
        Limited {
            name: "function_call",
            accepts: is_free_tool_choice,
            why: "tool calls are not supported yet; only \"none\" and \"auto\" are taken",
        },
        Limited {
            name: "response_format",
            accepts: is_text_format,
            why: "constrained answers come later; only {\"type\": \"text\"} is taken",
        },
        Limited { name: "modalities", accepts: is_text_only, why: "only [\"text\"] is taken" },
    ],
};

/// A chat and how to answer it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChatCompletionRequest)]
pub struct ChatRequest {
    /// The served model's id, or `default`.
    pub model: Option<String>,
    /// The chat so far; not empty.
    pub messages: Vec<ChatMessage>,
    /// Tokens to generate at most; without it, as many as the context holds.
    pub max_completion_tokens: Option<i64>,
    /// The older name of the former.
    pub max_tokens: Option<i64>,
    /// 0 to 2; 0 is greedy; 1 without it.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// Most likely tokens kept; 0 keeps all.
    pub top_k: Option<i64>,
    /// Tokens kept have at least this share of the best one's probability.
    pub min_p: Option<f64>,
    /// Divides the logits of tokens seen before; 1 is off.
    pub repetition_penalty: Option<f64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// `priority` is more urgent than other calls of the same API key, `flex` less.
    pub service_tier: Option<ServiceTier>,
    /// Makes the answer repeatable; drawn without it.
    pub seed: Option<i64>,
    /// Texts that end the answer; at most 16.
    pub stop: Option<StopBody>,
    /// Report log-probabilities.
    pub logprobs: Option<bool>,
    /// Alternatives to report with them: 0 to 20.
    pub top_logprobs: Option<i64>,
    /// Answers, with seeds that follow each other: 1 to 16. They share the prompt's prefill.
    pub n: Option<i64>,
    /// Send the answer as server-sent events.
    pub stream: Option<bool>,
    /// What the stream says beside the answer.
    pub stream_options: Option<StreamOptions>,
    /// Joins: absent, the answer is exact.
    pub cento: Option<CentoOptions>,
}

/// A chat's answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatCompletion {
    /// Its id, `chatcmpl-…`.
    pub id: String,
    /// Always `chat.completion`.
    pub object: &'static str,
    /// When it was asked for, in Unix seconds.
    pub created: u64,
    /// The served model's id.
    pub model: String,
    /// One for each answer asked for.
    pub choices: Vec<ChatChoice>,
    /// Tokens.
    pub usage: Usage,
    /// Changes when the weights, the tokenizer or the KV's form change.
    pub system_fingerprint: String,
    /// How the prompt was joined.
    pub cento: CentoReport,
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatChoice {
    /// Its place among the answers.
    pub index: usize,
    /// The answer.
    pub message: AssistantMessage,
    /// Scores of its tokens, where asked for.
    pub logprobs: Option<ChatLogprobs>,
    /// `stop` or `length`.
    pub finish_reason: &'static str,
}

/// The model's turn.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssistantMessage {
    /// Always `assistant`.
    pub role: &'static str,
    /// Its text.
    pub content: String,
    /// Always null.
    pub refusal: Option<String>,
    /// Always empty.
    #[schema(value_type = Vec<Object>)]
    pub annotations: [(); 0],
}

/// A piece of a streamed answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatChunk {
    /// The answer's id, the same in every chunk.
    pub id: String,
    /// Always `chat.completion.chunk`.
    pub object: &'static str,
    /// When the answer was asked for, in Unix seconds.
    pub created: u64,
    /// The served model's id.
    pub model: String,
    /// As in the whole answer.
    pub system_fingerprint: String,
    /// One; none in the chunk that reports usage.
    pub choices: Vec<ChatChunkChoice>,
    /// With `include_usage`: null until the last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>)]
    pub usage: Option<Option<Usage>>,
    /// With the finish reason: how the prompt was joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cento: Option<CentoReport>,
}

/// What a chunk adds.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatChunkChoice {
    /// Place of the answer that it is of.
    pub index: usize,
    /// The addition.
    pub delta: ChatDelta,
    /// Scores of the tokens added.
    pub logprobs: Option<ChatLogprobs>,
    /// In the last chunk with a choice: `stop` or `length`.
    pub finish_reason: Option<&'static str>,
}

/// An addition to a message.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct ChatDelta {
    /// `assistant`, in the first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// Text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// Answers a chat.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "openai", request_body = ChatRequest,
    responses(
        (status = 200, content(
            (ChatCompletion = "application/json"),
            (ChatChunk = "text/event-stream"),
        )),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody, description = "Another model was named."),
        (status = 429, body = ErrorBody, description = "Too many requests wait."),
    ),
)]
pub async fn create_chat_completion(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Result<Response, ApiError> {
    let request: ChatRequest = FIELDS.parse(body)?;
    check_model(&state.model.id, request.model.as_deref())?;
    let stream = request.stream.unwrap_or(false);
    let usage = include_usage(request.stream, request.stream_options)?;
    let n = answers(request.n)?;
    let shared = Arc::clone(&state);
    let (request, options) = blocking(move || request.request(&shared, &tenant)).await?;
    let readers = begin(&state, request, options, n).await?;
    let head = Head::new(&state, &readers[0]);
    if stream {
        return Ok(respond(readers, ChatWriter::new(head, n, usage)));
    }
    let mut answers = Vec::with_capacity(readers.len());
    for reader in readers {
        answers.push(collect(reader).await?);
    }
    Ok(Json(head.whole(answers)).into_response())
}

impl ChatRequest {
    /// The engine's request. Blocking.
    fn request(self, state: &AppState, tenant: &Tenant) -> Result<(Request, Options), ApiError> {
        let sampling = self.sampling()?;
        let top = top_logprobs("top_logprobs", self.top_logprobs)?.unwrap_or(0);
        let logprobs = self.logprobs.unwrap_or(false);
        if top > 0 && !logprobs {
            return Err(refuse("top_logprobs", "top_logprobs needs logprobs: true"));
        }
        let new_max = asked_max("max_completion_tokens", self.max_completion_tokens, 1)?;
        let old_max = asked_max("max_tokens", self.max_tokens, 1)?;
        if let (Some(new), Some(old)) = (new_max, old_max)
            && new != old
        {
            let message = format!("max_tokens is {old} and max_completion_tokens {new}: send one");
            return Err(refuse("max_tokens", message));
        }
        let stop_strings = self.stop.map_or(Ok(Vec::new()), StopBody::texts)?;
        let chat = messages(&self.messages)?;
        let Prompt { composition, policy, selected, fragments, bindings } =
            self.cento.unwrap_or_default().prompt(state, tenant, &chat)?;
        let context_max = state.engine.shape().context_max;
        let max_tokens = answer_max(new_max.or(old_max), prompt_tokens(&composition), context_max);
        let request = Request {
            tenant: Arc::clone(&tenant.0),
            priority: priority(self.service_tier),
            composition,
            policy,
            selected,
            sampling,
            stop_tokens: state.tokenizer.end_tokens().to_vec(),
            stop_strings,
            max_tokens,
            logprobs: logprobs.then_some(top),
            echo: false,
            seal: None,
        };
        Ok((request, Options { background: false, opens_turn: true, fragments, bindings }))
    }

    fn sampling(&self) -> Result<Sampling, ApiError> {
        SamplingFields {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            // The same bits: any 64-bit number is a seed.
            seed: self.seed.map(|seed| seed as u64),
        }
        .sampling()
    }
}

/// The template's tokens for `chat`, all of them tail: penalties see the whole prompt, and the
/// prefix cache finds it from its first token whatever the split.
pub fn exact(turns: &Turns, chat: &[Message]) -> Result<Composition, ApiError> {
    let tail = turns.chat(chat).map_err(|error| refuse("messages", error.to_string()))?;
    Ok(Composition { root: Arc::new([]), placements: Vec::new(), tail })
}

/// Tokens before the answer.
fn prompt_tokens(composition: &Composition) -> usize {
    let placed: usize = composition.placements.iter().map(|placement| placement.tokens.len()).sum();
    composition.root.len() + placed + composition.tail.len()
}

/// What an answer and its chunks have in common.
struct Head {
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
    tokenizer: Arc<Tokenizer>,
    logprobs: bool,
    prompt_tokens: usize,
}

impl Head {
    fn new(state: &AppState, reader: &Reader) -> Self {
        let generation = reader.generation();
        Self {
            id: generation.id.replace("gen_", "chatcmpl-"),
            created: generation.began.as_secs(),
            model: state.model.id.clone(),
            fingerprint: fingerprint(&state.engine),
            tokenizer: Arc::clone(&state.tokenizer),
            logprobs: generation.logprobs.is_some(),
            prompt_tokens: generation.prompt_tokens,
        }
    }

    fn logprobs(&self, scores: &[TokenLogprob]) -> Option<ChatLogprobs> {
        self.logprobs.then(|| ChatLogprobs::new(&self.tokenizer, scores))
    }

    /// The answers together. The prompt is counted once.
    fn whole(self, answers: Vec<(Snapshot, Summary)>) -> ChatCompletion {
        let first = answers.first().expect("there is one answer at least").1.clone();
        let mut usage = Usage::new(self.prompt_tokens, &first);
        for (_, summary) in &answers[1..] {
            usage.completion_tokens += summary.counts.output;
            usage.total_tokens += summary.counts.output;
        }
        let choice = |(index, (answer, summary)): (usize, (Snapshot, Summary))| ChatChoice {
            index,
            logprobs: self.logprobs(&answer.logprobs),
            message: AssistantMessage {
                role: "assistant",
                content: answer.text,
                refusal: None,
                annotations: [],
            },
            finish_reason: finish_reason(summary.finish_reason),
        };
        ChatCompletion {
            choices: answers.into_iter().enumerate().map(choice).collect(),
            id: self.id,
            object: "chat.completion",
            created: self.created,
            model: self.model,
            usage,
            system_fingerprint: self.fingerprint,
            cento: CentoReport::new(&first),
        }
    }
}

/// Writes chunks: of each answer the role, the deltas and the finish reason, and the usage where
/// asked for.
struct ChatWriter {
    head: Head,
    usage: bool,
    /// Of each answer, scores of tokens whose text is still held back.
    pending: Vec<Vec<TokenLogprob>>,
    spent: Usage,
}

impl ChatWriter {
    fn new(head: Head, answers: usize, usage: bool) -> Self {
        Self { head, usage, pending: vec![Vec::new(); answers], spent: Usage::default() }
    }

    fn chunk(&self, choices: Vec<ChatChunkChoice>) -> ChatChunk {
        let head = &self.head;
        ChatChunk {
            id: head.id.clone(),
            object: "chat.completion.chunk",
            created: head.created,
            model: head.model.clone(),
            system_fingerprint: head.fingerprint.clone(),
            choices,
            usage: self.usage.then_some(None),
            cento: None,
        }
    }

    fn delta(&self, index: usize, delta: ChatDelta, scores: Option<ChatLogprobs>) -> String {
        let choice = ChatChunkChoice { index, delta, logprobs: scores, finish_reason: None };
        to_json(&self.chunk(vec![choice]))
    }

    /// A chunk of `text` and of the scores that waited for it.
    fn text(&mut self, index: usize, text: &str) -> String {
        let scores = self.head.logprobs(&std::mem::take(&mut self.pending[index]));
        self.delta(index, ChatDelta { role: None, content: Some(text.to_owned()) }, scores)
    }

    /// The prompt is counted once: as the first answer had it.
    fn spend(&mut self, index: usize, summary: &Summary) {
        let usage = Usage::new(self.head.prompt_tokens, summary);
        let prompt = if index == 0 { usage } else { self.spent };
        let completion_tokens = self.spent.completion_tokens + usage.completion_tokens;
        let total_tokens = self.head.prompt_tokens + completion_tokens;
        self.spent = Usage { completion_tokens, total_tokens, ..prompt };
    }
}

impl Writer for ChatWriter {
    fn open(&mut self) -> Vec<String> {
        let role = || ChatDelta { role: Some("assistant"), content: Some(String::new()) };
        (0..self.pending.len()).map(|index| self.delta(index, role(), None)).collect()
    }

    fn entry(&mut self, index: usize, entry: &Entry) -> Vec<String> {
        match entry {
            Entry::Token { text, logprob, .. } => {
                self.pending[index].extend(logprob.clone());
                if text.is_empty() { Vec::new() } else { vec![self.text(index, text)] }
            }
            Entry::Text(text) => vec![self.text(index, text)],
            Entry::Finished(summary) => {
                let mut frames = Vec::new();
                if !self.pending[index].is_empty() {
                    frames.push(self.text(index, ""));
                }
                let mut chunk = self.chunk(vec![ChatChunkChoice {
                    index,
                    delta: ChatDelta::default(),
                    logprobs: None,
                    finish_reason: Some(finish_reason(summary.finish_reason)),
                }]);
                chunk.cento = Some(CentoReport::new(summary));
                frames.push(to_json(&chunk));
                self.spend(index, summary);
                frames
            }
            Entry::Created
            | Entry::Scored { .. }
            | Entry::Swapped { .. }
            | Entry::Restarted { .. }
            | Entry::Failed(_) => Vec::new(),
        }
    }

    fn close(&mut self) -> Vec<String> {
        if !self.usage {
            return Vec::new();
        }
        let mut chunk = self.chunk(Vec::new());
        chunk.usage = Some(Some(self.spent));
        vec![to_json(&chunk)]
    }
}

//! `POST /v1/completions`: text or token ids in, what follows out; always exact.
//!
//! A text prompt gets the model's BOS put before it where the model wants one; token ids are taken
//! as they are. The composition has no root and no placements: the tail is the whole prompt, so
//! that `echo` scores every token but the first, which nothing precedes.

use super::{
    check_model,
    fields::{Fields, Limited, is_empty, is_one, refuse},
    fingerprint,
    logprobs::{CompletionLogprobs, CompletionScores},
    sampling::{
        StreamOptions, Usage, answer_max, asked_max, finish_reason, include_usage, top_logprobs,
    },
    stream::{Writer, collect, respond, to_json},
};
use crate::{
    ApiError, AppState, Entry, JsonBody, Options, Reader, Snapshot, Tenant,
    api::{
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
use engine::{Composition, JoinPolicy, Request, Sampling, Summary, TokenLogprob};
use models::{TokenId, Tokenizer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use utoipa::ToSchema;

/// Tokens to generate when the request does not say: OpenAI's default for this endpoint.
const MAX_TOKENS_DEFAULT: usize = 16;
/// Prompts in one request: each is a generation, and the engine's queue is bounded too.
const PROMPTS_MAX: usize = 64;

/// Fields taken beside those of [`CompletionRequest`].
pub const FIELDS: Fields = Fields {
    ignored: &[
        ("user", "nothing is kept per user"),
        ("safety_identifier", "nothing is kept per user"),
        ("metadata", "answers are not stored"),
        ("store", "answers are not stored"),
        ("prompt_cache_key", "the cache finds prefixes by their tokens"),
    ],
    limited: &[
        Limited { name: "n", accepts: is_one, why: "only 1 answer per prompt is given" },
        Limited { name: "best_of", accepts: is_one, why: "only 1 answer per prompt is given" },
        Limited { name: "suffix", accepts: is_empty, why: "infilling is not supported" },
        Limited { name: "logit_bias", accepts: is_empty, why: "biases are not supported yet" },
    ],
};

/// A prompt, or several, and how to go on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompletionRequest {
    /// The served model's id, or `default`.
    pub model: Option<String>,
    /// A text, token ids, or a list of these; each gets a choice of its own.
    #[schema(value_type = CompletionPrompt)]
    pub prompt: Value,
    /// Tokens to generate at most: 16 without it; 0 only scores or echoes.
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
    /// Makes the answers repeatable; drawn without it.
    pub seed: Option<i64>,
    /// `priority` is more urgent than other calls of the same API key, `flex` less.
    pub service_tier: Option<ServiceTier>,
    /// Texts that end an answer; at most 16.
    pub stop: Option<StopBody>,
    /// Report log-probabilities with this many alternatives: 0 to 20.
    pub logprobs: Option<i64>,
    /// Put the prompt before the answer, with its log-probabilities where these are asked for.
    pub echo: Option<bool>,
    /// Send the answers as server-sent events.
    pub stream: Option<bool>,
    /// What the stream says beside the answers.
    pub stream_options: Option<StreamOptions>,
}

/// A prompt, for the API's description.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
pub enum CompletionPrompt {
    /// A text.
    Text(String),
    /// Token ids.
    Tokens(Vec<TokenId>),
    /// Texts.
    Texts(Vec<String>),
    /// Lists of token ids.
    TokenLists(Vec<Vec<TokenId>>),
}

/// What follows the prompts.
#[derive(Debug, Serialize, ToSchema)]
pub struct Completion {
    /// Its id, `cmpl-…`; in a stream the same in every chunk.
    pub id: String,
    /// Always `text_completion`.
    pub object: &'static str,
    /// When it was asked for, in Unix seconds.
    pub created: u64,
    /// The served model's id.
    pub model: String,
    /// Changes when the weights, the tokenizer or the KV's form change.
    pub system_fingerprint: String,
    /// One for each prompt; in a stream at most one.
    pub choices: Vec<CompletionChoice>,
    /// Tokens, over all prompts. In a stream with `include_usage`: null until the last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>)]
    pub usage: Option<Option<Usage>>,
}

/// What follows one prompt.
#[derive(Debug, Serialize, ToSchema)]
pub struct CompletionChoice {
    /// The answer, after the prompt where `echo` is asked for.
    pub text: String,
    /// Place of its prompt in the request.
    pub index: usize,
    /// Scores of the tokens of `text`.
    pub logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`; null until a stream's end.
    pub finish_reason: Option<&'static str>,
}

/// Continues prompts, or scores them.
#[utoipa::path(
    post, path = "/v1/completions", tag = "openai", request_body = CompletionRequest,
    responses(
        (status = 200, content(
            (Completion = "application/json"),
            (Completion = "text/event-stream"),
        )),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody, description = "Another model was named."),
        (status = 429, body = ErrorBody, description = "Too many requests wait."),
    ),
)]
pub async fn create_completion(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Result<Response, ApiError> {
    let request: CompletionRequest = FIELDS.parse(body)?;
    check_model(&state.model.id, request.model.as_deref())?;
    let stream = request.stream.unwrap_or(false);
    let usage = include_usage(request.stream, request.stream_options)?;
    let shared = Arc::clone(&state);
    let started = blocking(move || {
        // When one is refused, the readers before it are dropped, and their generations with them.
        let start = |(request, choice)| {
            Ok((shared.generations.start(request, Options::default())?, choice))
        };
        request.prepare(&shared, &tenant)?.into_iter().map(start).collect::<Result<Vec<_>, _>>()
    })
    .await?;
    let (readers, choices): (Vec<Reader>, Vec<Choice>) = started.into_iter().unzip();
    let head = Head::new(&state, &readers[0], usage);
    if stream {
        let spent = Usage::default();
        return Ok(respond(readers, CompletionWriter { head, choices, spent }));
    }
    let mut whole = head.chunk(Vec::new());
    let mut spent = Usage::default();
    for (reader, choice) in readers.into_iter().zip(choices) {
        let (answer, summary) = collect(reader).await?;
        spent.add(&Usage::new(choice.prompt.tokens.len(), &summary));
        whole.choices.push(choice.whole(&answer, &summary));
    }
    whole.usage = Some(Some(spent));
    Ok(Json(whole).into_response())
}

impl CompletionRequest {
    /// One engine request for each prompt, and what its choice needs. Blocking.
    fn prepare(
        self,
        state: &AppState,
        tenant: &Tenant,
    ) -> Result<Vec<(Request, Choice)>, ApiError> {
        let sampling = self.sampling()?;
        let stop_strings = self.stop.map_or(Ok(Vec::new()), StopBody::texts)?;
        let logprobs = top_logprobs("logprobs", self.logprobs)?;
        let echo = self.echo.unwrap_or(false);
        let prompts = prompts(&self.prompt, &state.tokenizer)?;
        let asked_max = asked_max("max_tokens", self.max_tokens, 0)?.unwrap_or(MAX_TOKENS_DEFAULT);
        let each = |(index, prompt): (usize, Prompt)| {
            let context_max = state.engine.shape().context_max;
            let request = Request {
                tenant: Arc::clone(&tenant.0),
                priority: priority(self.service_tier),
                composition: Composition {
                    root: Arc::new([]),
                    placements: Vec::new(),
                    tail: prompt.tokens.clone(),
                },
                policy: JoinPolicy::Recompute,
                selected: None,
                sampling: sampling.clone(),
                stop_tokens: state.tokenizer.end_tokens().to_vec(),
                stop_strings: stop_strings.clone(),
                max_tokens: answer_max(Some(asked_max), prompt.tokens.len(), context_max),
                logprobs,
                echo: echo && logprobs.is_some(),
                seal: None,
            };
            let tokenizer = Arc::clone(&state.tokenizer);
            (request, Choice::new(index, prompt, tokenizer, echo, logprobs.is_some()))
        };
        Ok(prompts.into_iter().enumerate().map(each).collect())
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

/// A prompt as the engine takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Its tokens; not empty.
    pub tokens: Vec<TokenId>,
    /// The first token is a BOS that the text does not show.
    pub bos_added: bool,
    /// What `echo` shows.
    pub text: String,
}

/// The prompts of a request.
pub fn prompts(given: &Value, tokenizer: &Tokenizer) -> Result<Vec<Prompt>, ApiError> {
    match given {
        Value::Array(items) if items.iter().all(Value::is_number) => {
            Ok(vec![prompt("prompt", given, tokenizer)?])
        }
        Value::Array(items) if items.len() > PROMPTS_MAX => {
            let message = format!("prompt has {} prompts; the limit is {PROMPTS_MAX}", items.len());
            Err(refuse("prompt", message))
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| prompt(&format!("prompt[{index}]"), item, tokenizer))
            .collect(),
        _ => Ok(vec![prompt("prompt", given, tokenizer)?]),
    }
}

fn prompt(param: &str, given: &Value, tokenizer: &Tokenizer) -> Result<Prompt, ApiError> {
    let prompt = match given {
        Value::String(text) => {
            // Special tokens written in the text count: raw prompts bring their own template.
            let mut tokens = tokenizer.encode(text, true);
            let bos = tokenizer.bos().filter(|&bos| tokens.first() != Some(&bos));
            tokens.splice(0..0, bos);
            Prompt { tokens, bos_added: bos.is_some(), text: text.clone() }
        }
        Value::Array(items) => {
            let tokens: Vec<TokenId> = items
                .iter()
                .map(|item| item.as_u64().and_then(|id| TokenId::try_from(id).ok()))
                .collect::<Option<_>>()
                .ok_or_else(|| refuse(param, format!("{param} must hold token ids only")))?;
            let unknown = tokens.iter().find(|&&token| token as usize >= tokenizer.vocab());
            if let Some(token) = unknown {
                let vocab = tokenizer.vocab();
                let message = format!("{param} has token {token}; the vocabulary has {vocab}");
                return Err(refuse(param, message));
            }
            let text = tokenizer.decode(&tokens, true);
            Prompt { tokens, bos_added: false, text }
        }
        _ => return Err(refuse(param, format!("{param} must be a text or a list of token ids"))),
    };
    if prompt.tokens.is_empty() {
        return Err(refuse(param, format!("{param} is empty: at least one token is needed")));
    }
    Ok(prompt)
}

/// One choice on its way.
struct Choice {
    index: usize,
    prompt: Prompt,
    tokenizer: Arc<Tokenizer>,
    echo: bool,
    scores: Option<CompletionScores>,
}

impl Choice {
    fn new(
        index: usize,
        prompt: Prompt,
        tokenizer: Arc<Tokenizer>,
        echo: bool,
        logprobs: bool,
    ) -> Self {
        let scores = logprobs.then(CompletionScores::default);
        Self { index, prompt, tokenizer, echo, scores }
    }

    /// Adds the prompt's scores, where both `echo` and `logprobs` are asked for.
    fn score_prompt(&mut self, rest: &[TokenLogprob]) {
        let Some(scores) = self.scores.as_mut().filter(|_| self.echo) else { return };
        let first = self.tokenizer.token_bytes(self.prompt.tokens[0]);
        if self.prompt.bos_added {
            scores.push_silent(&first);
        } else {
            scores.push_first(&first);
        }
        for score in rest {
            scores.push(score, |token| self.tokenizer.token_bytes(token));
        }
    }

    fn score_answer(&mut self, answer: &[TokenLogprob]) {
        let Some(scores) = &mut self.scores else { return };
        for score in answer {
            scores.push(score, |token| self.tokenizer.token_bytes(token));
        }
    }

    fn whole(mut self, answer: &Snapshot, summary: &Summary) -> CompletionChoice {
        self.score_prompt(answer.tail_logprobs.as_deref().unwrap_or_default());
        self.score_answer(&answer.logprobs);
        let mut text =
            if self.echo { std::mem::take(&mut self.prompt.text) } else { String::new() };
        text += &answer.text;
        self.piece(text, Some(finish_reason(summary.finish_reason)))
    }

    /// `text` and the scores added since the last piece.
    fn piece(&mut self, text: String, finish_reason: Option<&'static str>) -> CompletionChoice {
        let logprobs = self.scores.as_mut().map(CompletionScores::take);
        CompletionChoice { text, index: self.index, logprobs, finish_reason }
    }
}

/// What an answer's chunks have in common.
struct Head {
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
    usage: bool,
}

impl Head {
    fn new(state: &AppState, first: &Reader, usage: bool) -> Self {
        let generation = first.generation();
        Self {
            id: generation.id.replace("gen_", "cmpl-"),
            created: generation.began.as_secs(),
            model: state.model.id.clone(),
            fingerprint: fingerprint(&state.engine),
            usage,
        }
    }

    fn chunk(&self, choices: Vec<CompletionChoice>) -> Completion {
        Completion {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.model.clone(),
            system_fingerprint: self.fingerprint.clone(),
            choices,
            usage: self.usage.then_some(None),
        }
    }
}

/// Writes chunks: the prompts where echoed, the texts, the finish reasons, and the usage.
struct CompletionWriter {
    head: Head,
    choices: Vec<Choice>,
    spent: Usage,
}

impl CompletionWriter {
    fn frame(&self, choice: CompletionChoice) -> String {
        to_json(&self.head.chunk(vec![choice]))
    }

    /// The prompt of `choice` as its first piece.
    fn echo(&mut self, index: usize, scores: &[TokenLogprob]) -> String {
        let choice = &mut self.choices[index];
        choice.score_prompt(scores);
        let text = std::mem::take(&mut choice.prompt.text);
        let piece = choice.piece(text, None);
        self.frame(piece)
    }
}

impl Writer for CompletionWriter {
    fn open(&mut self) -> Vec<String> {
        // With scores, a prompt is echoed when they are there.
        let ready = |choice: &Choice| choice.echo && choice.scores.is_none();
        let indexes: Vec<usize> =
            self.choices.iter().filter(|choice| ready(choice)).map(|choice| choice.index).collect();
        indexes.into_iter().map(|index| self.echo(index, &[])).collect()
    }

    fn entry(&mut self, index: usize, entry: &Entry) -> Vec<String> {
        match entry {
            Entry::Scored { tail, .. } => vec![self.echo(index, tail)],
            Entry::Token { text, logprob, .. } => {
                let choice = &mut self.choices[index];
                choice.score_answer(logprob.as_slice());
                if text.is_empty() {
                    return Vec::new();
                }
                let piece = choice.piece(text.clone(), None);
                vec![self.frame(piece)]
            }
            Entry::Text(text) => {
                let piece = self.choices[index].piece(text.clone(), None);
                vec![self.frame(piece)]
            }
            Entry::Finished(summary) => {
                let choice = &mut self.choices[index];
                self.spent.add(&Usage::new(choice.prompt.tokens.len(), summary));
                let reason = finish_reason(summary.finish_reason);
                let piece = choice.piece(String::new(), Some(reason));
                vec![self.frame(piece)]
            }
            Entry::Created | Entry::Swapped { .. } | Entry::Restarted { .. } | Entry::Failed(_) => {
                Vec::new()
            }
        }
    }

    fn close(&mut self) -> Vec<String> {
        if !self.head.usage {
            return Vec::new();
        }
        let mut chunk = self.head.chunk(Vec::new());
        chunk.usage = Some(Some(self.spent));
        vec![to_json(&chunk)]
    }
}

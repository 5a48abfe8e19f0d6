//! `POST /v1/generate`: compose, join, generate.

use crate::{
    ApiError, AppState, JsonBody, Options, Profile, Tenant,
    api::{
        compose::{Composed, PartBody, RootBody, at_most, check_live, check_tokens, compose},
        deliver::{Delivery, GenerationList},
        generations::GenerationObject,
        priority::{PriorityBody, priority},
    },
    blocking,
    limits::{LOGPROBS_MAX, MAX_TOKENS_DEFAULT, STOP_STRING_BYTES_MAX, STOP_STRINGS_MAX},
    random_seed,
};
use axum::{extract::State, response::Response};
use engine::{JoinPolicy, PolicyError, Request, Sampling, Seal};
use models::TokenId;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// What to compose, how to join it, how to go on.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateBody {
    /// What the fragments are encoded after; the model's default when absent. `{"tokens": []}` is
    /// nothing, under `reuse` only: it shows what a root is worth.
    pub root: Option<RootBody>,
    /// Fragments in order; may be empty.
    #[serde(default)]
    pub compose: Vec<PartBody>,
    /// The new turn; sees everything. When it ends in a `user` or `tool` turn, the model's turn is
    /// opened after it.
    pub tail: Vec<PartBody>,
    /// How the fragments are joined (default: `{"policy": "reuse"}`).
    pub join: Option<JoinBody>,
    /// Tokens to generate at most (default: 256); 0 only scores.
    pub max_tokens: Option<i64>,
    /// 0 is greedy (default: 1, at most 2).
    pub temperature: Option<f64>,
    /// Smallest set of tokens with this mass (default: 1).
    pub top_p: Option<f64>,
    /// Most likely tokens kept; 0 is off (default: 0).
    pub top_k: Option<i64>,
    /// Least share of the best token's probability; 0 is off (default: 0).
    pub min_p: Option<f64>,
    /// Divides logits of tokens seen in tail or answer; 1 is off (default: 1).
    pub repetition_penalty: Option<f64>,
    /// Subtracted once from logits of tokens in the answer (default: 0, -2 to 2).
    pub presence_penalty: Option<f64>,
    /// Subtracted per occurrence (default: 0, -2 to 2).
    pub frequency_penalty: Option<f64>,
    /// Makes the answer repeatable; drawn, and told in the result, when absent.
    pub seed: Option<u64>,
    /// Texts that end the answer and are not part of it.
    pub stop: Option<StopBody>,
    /// Report log-probabilities with this many alternatives, 0 to 200.
    pub logprobs: Option<i64>,
    /// Token ids that the answer begins with, given instead of chosen; with `logprobs` they score
    /// an answer that is known. At most `max_tokens`.
    pub forced: Option<Vec<TokenId>>,
    /// Score the tail too; needs `logprobs` (default: false).
    pub echo: Option<bool>,
    /// Make a fragment of the tail and the answer, without prefill: `sealed` in the result is its
    /// id. Not under `recompute`, which keeps all it computes in one piece (default: false).
    pub seal: Option<bool>,
    /// Answers, with seeds that follow each other, 1 to 16 (default: 1). They share the tail's
    /// prefill, and what is bound live is kept current in each by itself. More than one come as a list, and not as a stream.
    pub n: Option<i64>,
    /// How urgent it is (default: `normal`).
    pub priority: Option<PriorityBody>,
    /// Answer with server-sent events (default: false).
    pub stream: Option<bool>,
    /// Go on when nobody reads; without `stream`, answer at once with 202 (default: false).
    pub background: Option<bool>,
}

/// How fragments are joined.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinBody {
    /// `recompute`, `reuse`, `parallel`, `boundary`, `deviation`, `query` or `auto`.
    pub policy: String,
    /// `boundary`: rows computed again of each fragment but the first.
    pub tokens: Option<f64>,
    /// `parallel`: divides scores of the tail with fragments (default: what `cento doctor
    /// --calibrate` found for the model).
    pub temperature: Option<f64>,
    /// `parallel`: weighs the fragments' part of the attention (default: as for `temperature`).
    pub scale: Option<f64>,
    /// `deviation`, `query`: share of the fragments' rows that is computed again.
    pub ratio: Option<f64>,
    /// `auto`: how near the answer should come to that of `recompute`.
    pub quality: Option<f64>,
    /// `deviation`, `query`, `auto`: compute these rows again instead of those the policy chooses, by
    /// their positions in the sequential composition, ascending. For tests and experiments.
    pub selected: Option<Vec<u32>>,
}

/// One text or several.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a text or a list of texts")]
pub enum StopBody {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl StopBody {
    /// The texts, within their bounds.
    pub fn texts(self) -> Result<Vec<String>, ApiError> {
        let texts = match self {
            Self::One(text) => vec![text],
            Self::Several(texts) => texts,
        };
        at_most("stop", "texts", texts.len(), STOP_STRINGS_MAX)?;
        for (index, text) in texts.iter().enumerate() {
            let param = format!("stop[{index}]");
            at_most(&param, "bytes", text.len(), STOP_STRING_BYTES_MAX)?;
            if text.is_empty() {
                return Err(ApiError::bad_request(param.as_str(), format!("{param} is empty")));
            }
        }
        Ok(texts)
    }
}

impl JoinBody {
    /// The policy, with its parameters in their ranges.
    ///
    /// Those of `parallel` that are not given are what the model's profile says.
    pub fn policy(&self, profile: &Profile) -> Result<JoinPolicy, ApiError> {
        let given = [
            ("tokens", self.tokens),
            ("temperature", self.temperature),
            ("scale", self.scale),
            ("ratio", self.ratio),
            ("quality", self.quality),
        ];
        let value = |name: &str| {
            let given = given.iter().find(|(other, _)| *other == name)?.1;
            given.or_else(|| profile.value(&self.policy, name))
        };
        let policy =
            JoinPolicy::new(&self.policy, value).map_err(|error| refused_policy(&error))?;
        let form = policy.form();
        let takes = |name: &str| form.parameters.iter().any(|parameter| parameter.name == name);
        match given.iter().find(|(name, value)| value.is_some() && !takes(name)) {
            None => Ok(policy),
            Some((name, _)) => {
                let message = format!("join policy {:?} takes no `{name}`", form.name);
                Err(ApiError::bad_request(format!("join.{name}"), message)
                    .with_code("unknown_field"))
            }
        }
    }

    /// The rows to compute again, where they are given.
    pub fn selected(&self) -> Option<Arc<[u32]>> {
        self.selected.as_deref().map(Arc::from)
    }
}

/// 400: a policy that is none, and the field that makes it so.
fn refused_policy(error: &PolicyError) -> ApiError {
    let (param, code) = match error {
        PolicyError::Unknown { .. } => ("join.policy".into(), "unknown_policy"),
        PolicyError::Missing { name, .. } => (format!("join.{name}"), "missing"),
        PolicyError::OutOfRange { name, .. } => (format!("join.{name}"), "out_of_range"),
        PolicyError::TooMany { .. } => ("join".into(), "unknown_field"),
    };
    ApiError::bad_request(param, error.to_string()).with_code(code)
}

/// Sampling fields as clients give them, with OpenAI's defaults; shared with the shim.
#[derive(Clone, Copy, Debug, Default)]
pub struct SamplingFields {
    /// 0 to 2.
    pub temperature: Option<f64>,
    /// Over 0, at most 1.
    pub top_p: Option<f64>,
    /// 0 or more.
    pub top_k: Option<i64>,
    /// 0 to 1.
    pub min_p: Option<f64>,
    /// Over 0, at most 10.
    pub repetition_penalty: Option<f64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// Drawn when absent.
    pub seed: Option<u64>,
}

impl SamplingFields {
    /// Checks every range.
    pub fn sampling(&self) -> Result<Sampling, ApiError> {
        let top_p = number("top_p", self.top_p, 1.0, 0.0, 1.0)?;
        if top_p == 0.0 {
            return Err(out_of_range("top_p", "0", "over 0 and at most 1"));
        }
        let repetition_penalty =
            number("repetition_penalty", self.repetition_penalty, 1.0, 0.01, 10.0)?;
        Ok(Sampling {
            temperature: number("temperature", self.temperature, 1.0, 0.0, 2.0)?,
            top_p,
            top_k: integer("top_k", self.top_k, 0, i64::from(u32::MAX))?.unwrap_or(0),
            min_p: number("min_p", self.min_p, 0.0, 0.0, 1.0)?,
            repetition_penalty,
            presence_penalty: number("presence_penalty", self.presence_penalty, 0.0, -2.0, 2.0)?,
            frequency_penalty: number("frequency_penalty", self.frequency_penalty, 0.0, -2.0, 2.0)?,
            seed: self.seed.unwrap_or_else(random_seed),
            forced: Vec::new(),
        })
    }
}

/// A number in `[least, most]`, or its default.
pub(crate) fn number(
    param: &str,
    given: Option<f64>,
    default: f64,
    least: f64,
    most: f64,
) -> Result<f32, ApiError> {
    let value = given.unwrap_or(default);
    // NaN is in no range.
    if (least..=most).contains(&value) {
        return Ok(value as f32);
    }
    Err(out_of_range(param, &value.to_string(), &format!("from {least} to {most}")))
}

/// A whole number in `[least, most]`.
pub(crate) fn integer(
    param: &str,
    given: Option<i64>,
    least: i64,
    most: i64,
) -> Result<Option<usize>, ApiError> {
    match given {
        None => Ok(None),
        Some(value) if (least..=most).contains(&value) => {
            Ok(Some(usize::try_from(value).expect("the range holds no negative numbers")))
        }
        Some(value) => {
            Err(out_of_range(param, &value.to_string(), &format!("from {least} to {most}")))
        }
    }
}

/// 400: a number outside its range.
pub(crate) fn out_of_range(param: &str, given: &str, expected: &str) -> ApiError {
    let message = format!("{param} is {given}; it must be {expected}");
    ApiError::bad_request(param, message).with_code("out_of_range")
}

impl GenerateBody {
    /// The engine's request. Blocking.
    fn request(self, state: &AppState, tenant: &Tenant) -> Result<(Request, Options), ApiError> {
        let forced = self.forced.unwrap_or_default();
        check_tokens(state, "forced", &forced)?;
        let policy = self.join.as_ref();
        let policy = policy.map_or(Ok(JoinPolicy::Reuse), |join| join.policy(&state.profile))?;
        let sampling = SamplingFields {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            seed: self.seed,
        }
        .sampling()?;
        let sampling = Sampling { forced, ..sampling };
        let context_max = state.engine.shape().context_max as i64;
        let max_tokens = integer("max_tokens", self.max_tokens, 0, context_max)?;
        let logprobs = integer("logprobs", self.logprobs, 0, LOGPROBS_MAX as i64)?;
        let echo = self.echo.unwrap_or(false);
        if echo && logprobs.is_none() {
            let message = "echo reports the tail's log-probabilities: give `logprobs` too";
            return Err(ApiError::bad_request("echo", message));
        }
        let stop_strings = self.stop.map_or(Ok(Vec::new()), StopBody::texts)?;
        let Composed { composition, fragments, bindings, opens_turn } =
            compose(state, tenant, self.root.as_ref(), &self.compose, &self.tail)?;
        check_live(&bindings, policy, self.seal.unwrap_or(false))?;
        let closing = if opens_turn { state.turns.end_of_answer() } else { Vec::new() };
        let seal = self.seal.unwrap_or(false).then_some(Seal { closing });
        let request = Request {
            tenant: Arc::clone(&tenant.0),
            priority: priority(self.priority),
            composition,
            policy,
            selected: self.join.as_ref().and_then(JoinBody::selected),
            sampling,
            stop_tokens: state.tokenizer.end_tokens().to_vec(),
            stop_strings,
            max_tokens: max_tokens.unwrap_or(MAX_TOKENS_DEFAULT),
            logprobs,
            echo,
            seal,
        };
        let background = self.background.unwrap_or(false);
        Ok((request, Options { background, opens_turn, fragments, bindings }))
    }
}

/// Composes, joins and generates.
#[utoipa::path(post, path = "/v1/generate", request_body = GenerateBody, responses(
    (status = 200, description = "The result; with `stream`, its events; with `n`, a list",
        content((GenerationObject = "application/json"), (GenerationList = "application/json"))),
    (status = 202, body = GenerationObject, description = "With `background`: it has begun"),
    (status = 400, body = crate::error::ErrorBody),
    (status = 404, body = crate::error::ErrorBody, description = "A fragment is not known"),
    (status = 429, body = crate::error::ErrorBody, description = "Too many requests wait"),
))]
pub async fn generate(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
    JsonBody(body): JsonBody<GenerateBody>,
) -> Result<Response, ApiError> {
    let delivery = Delivery::new(body.stream, body.background, body.n)?;
    let shared = Arc::clone(&state);
    let (request, options) = blocking(move || body.request(&shared, &tenant)).await?;
    delivery.answer(&state, request, options).await
}

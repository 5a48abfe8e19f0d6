//! What chat and text completions share: bounds of an answer, why it ended, what it cost.

use crate::{
    ApiError,
    api::generate::{integer, out_of_range},
    limits::OPENAI_LOGPROBS_MAX,
};
use engine::{FinishReason, Summary};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a stream says beside its text.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// One more chunk at the end, without choices and with `usage`.
    pub include_usage: Option<bool>,
    /// Taken and ignored: nothing is padded here.
    pub include_obfuscation: Option<bool>,
}

/// Whether a stream ends with its usage.
pub(super) fn include_usage(
    stream: Option<bool>,
    options: Option<StreamOptions>,
) -> Result<bool, ApiError> {
    if options.is_some() && stream != Some(true) {
        let message = "stream_options needs stream: true";
        return Err(ApiError::bad_request("stream_options", message));
    }
    Ok(options.and_then(|options| options.include_usage).unwrap_or(false))
}

/// Alternatives to report for a token.
pub(super) fn top_logprobs(name: &str, given: Option<i64>) -> Result<Option<usize>, ApiError> {
    integer(name, given, 0, OPENAI_LOGPROBS_MAX as i64)
}

/// Tokens asked for, `least` or more; no bound above, see [`answer_max`].
pub(super) fn asked_max(
    name: &str,
    given: Option<i64>,
    least: i64,
) -> Result<Option<usize>, ApiError> {
    match given {
        Some(given) if given < least => {
            Err(out_of_range(name, &given.to_string(), &format!("at least {least}")))
        }
        given => integer(name, given, least, i64::MAX),
    }
}

/// Tokens an answer may have: what was asked for, as far as positions are left. An answer that
/// meets the end of the context says so by `finish_reason: "length"`.
pub(super) fn answer_max(asked: Option<usize>, prompt_tokens: usize, context_max: usize) -> usize {
    let left = context_max.saturating_sub(prompt_tokens).max(1);
    asked.map_or(left, |asked| asked.min(left))
}

/// OpenAI's word for why an answer ended. Cancelled ones are errors before it comes to this.
pub(super) fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::Cancelled => "stop",
        FinishReason::Length | FinishReason::Context => "length",
    }
}

/// Tokens of a request and its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Usage {
    /// Tokens before the answer.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub completion_tokens: usize,
    /// Both.
    pub total_tokens: usize,
    /// More on the first.
    pub prompt_tokens_details: PromptDetails,
}

/// What became of prompt tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PromptDetails {
    /// Tokens whose KV came from a cache and is exactly what prefilling them would have computed.
    pub cached_tokens: usize,
}

impl Usage {
    /// The usage of one answer to `prompt_tokens` tokens.
    pub fn new(prompt_tokens: usize, summary: &Summary) -> Self {
        let counts = &summary.counts;
        // Fragments that an approximate join reused are no exact hits: `cento.join` counts them.
        let placed = if summary.exact { counts.reused } else { 0 };
        let cached_tokens = (counts.prefix_reused + placed).min(prompt_tokens);
        Self {
            prompt_tokens,
            completion_tokens: counts.output,
            total_tokens: prompt_tokens + counts.output,
            prompt_tokens_details: PromptDetails { cached_tokens },
        }
    }

    /// Adds the usage of another answer.
    pub fn add(&mut self, other: &Self) {
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.total_tokens += other.total_tokens;
        self.prompt_tokens_details.cached_tokens += other.prompt_tokens_details.cached_tokens;
    }
}

#[cfg(test)]
mod tests {
    use super::{Usage, answer_max};
    use engine::{Counts, FinishReason, JoinPolicy, Summary, Timings};

    #[test]
    fn only_exact_reuse_counts_as_cached() {
        let cached = |exact: bool| {
            let counts = Counts {
                root: 4,
                reused: 100,
                tail: 10,
                prefix_reused: 4,
                output: 3,
                ..Counts::default()
            };
            let (finish_reason, policy) = (FinishReason::Stop, JoinPolicy::Reuse);
            let timings = Timings::default();
            let summary = Summary {
                finish_reason,
                policy,
                exact,
                counts,
                recomputed_share: 0.0,
                selected: [].into(),
                sealed: None,
                timings,
            };
            let usage = Usage::new(114, &summary);
            assert_eq!((usage.completion_tokens, usage.total_tokens), (3, 117));
            usage.prompt_tokens_details.cached_tokens
        };
        assert_eq!((cached(false), cached(true)), (4, 104));
    }

    #[test]
    fn an_answer_ends_where_the_context_ends() {
        assert_eq!(answer_max(None, 10, 16), 6);
        assert_eq!(answer_max(Some(4), 10, 16), 4);
        assert_eq!(answer_max(Some(400), 10, 16), 6);
        assert_eq!(answer_max(Some(0), 10, 16), 0);
    }
}

//! What runs an arm: the engine in this process, or a server over HTTP. Both give the same numbers.

mod http;
mod local;

pub(crate) use http::Http;
pub(crate) use local::{Loaded, Local};

use crate::arm::Joined;
use engine::TokenLogprob;
use models::TokenId;
use serde::{Deserialize, Serialize};

/// The model behind it, for results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Card {
    /// As it was asked for, or as the server calls it.
    pub(crate) name: String,
    /// Over all that a KV byte depends on besides tokens: weights, tokenizer, format, instruction
    /// set.
    pub(crate) fingerprint: String,
    /// Positions a composition and its answer may take.
    pub(crate) context_max: usize,
    /// `engine`, or `http`.
    pub(crate) through: String,
    /// Instruction set; unknown of a server.
    pub(crate) isa: Option<String>,
    /// Threads; unknown of a server.
    pub(crate) threads: Option<usize>,
}

/// One generation, greedy.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    /// What is cached is shared between calls of one tenant only, where there are tenants.
    pub(crate) tenant: &'a str,
    pub(crate) joined: &'a Joined,
    pub(crate) tail: &'a [TokenId],
    /// The answer's first tokens, given instead of chosen.
    pub(crate) forced: &'a [TokenId],
    pub(crate) max_tokens: usize,
    /// Alternatives to report.
    pub(crate) logprobs: Option<usize>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) tokens: Vec<TokenId>,
    /// Scores of its tokens, when they were asked for.
    pub(crate) scores: Vec<TokenLogprob>,
    pub(crate) exact: bool,
    /// Fragment tokens that were cached.
    pub(crate) reused: usize,
    /// Fragment tokens that this call encoded.
    pub(crate) encoded: usize,
    /// Root and tail tokens that were cached.
    pub(crate) prefix_reused: usize,
    pub(crate) recomputed_share: f64,
    pub(crate) first_token_ms: f64,
}

/// Runs arms.
pub(crate) trait Backend {
    /// The model behind it.
    fn card(&self) -> &Card;

    /// Encodes the fragments of a composition that are not cached.
    fn encode(&mut self, tenant: &str, joined: &Joined) -> anyhow::Result<()>;

    fn generate(&mut self, call: &Call<'_>) -> anyhow::Result<Answer>;

    /// Nothing is shared between tenants, so that each item and arm finds its own cache only.
    fn has_tenants(&self) -> bool;
}

#[cfg(test)]
mod tests;

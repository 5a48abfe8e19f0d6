//! The engine's plain-data vocabulary: what is asked of it and what it answers.

use crate::{Figures, JoinPolicy, Priority, Seal, Sealed, SequenceId};
use models::TokenId;
use std::{fmt, ops::Range, str::FromStr, sync::Arc};

/// Identity of a fragment: the hash of its content and of everything its KV depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FragmentId(pub [u8; 16]);

impl fmt::Display for FragmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("frg_")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FragmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for FragmentId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let hex = text.strip_prefix("frg_").filter(|h| h.len() == 32 && h.is_ascii()).ok_or(())?;
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| ())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ())?;
        }
        Ok(Self(id))
    }
}

/// A fragment to be encoded after a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentSpec {
    /// Whose it is: fragments are never shared between tenants.
    pub tenant: Arc<str>,
    /// Tokens it is encoded after; not empty.
    pub root: Arc<[TokenId]>,
    /// Its own tokens; not empty.
    pub tokens: Arc<[TokenId]>,
    /// Keeps its KV from being evicted.
    pub pin: bool,
    /// How urgent encoding it is.
    pub priority: Priority,
}

/// What the engine knows of a fragment.
#[derive(Clone, Debug, PartialEq)]
pub struct FragmentInfo {
    /// Its identity.
    pub id: FragmentId,
    /// Root tokens.
    pub root: Arc<[TokenId]>,
    /// Own tokens.
    pub tokens: Arc<[TokenId]>,
    /// Its KV was there already when it was put (`put`), or is there now (`get`, `list`).
    pub cached: bool,
    /// A tier keeps its KV: it survives eviction, and, on a disk or in a shared store, a restart.
    pub stored: bool,
    /// Kept from eviction.
    pub pinned: bool,
    /// Sequences that hold it now.
    pub users: usize,
    /// Hash of its KV bytes, when asked for and encoded.
    pub digest: Option<[u8; 32]>,
    /// What it saw besides its root, when it is contextual; none of a clean one.
    pub sealed: Option<Arc<Sealed>>,
}

/// A fragment in a composition.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// Its own tokens.
    pub tokens: Arc<[TokenId]>,
    /// Of a sealed fragment: what it saw. None of a clean one.
    pub sealed: Option<Arc<Sealed>>,
}

impl From<Arc<[TokenId]>> for Placement {
    /// A clean fragment, encoded on the way when it is not cached.
    fn from(tokens: Arc<[TokenId]>) -> Self {
        Self { tokens, sealed: None }
    }
}

/// Root, placements and tail: what stands before the model for one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Composition {
    /// Tokens at position 0, the only attention sink. Empty under `recompute` without placements,
    /// where root and tail are one text; and, to measure what a root is worth, under `reuse`:
    /// fragments are then encoded after nothing, each with a sink of its own.
    pub root: Arc<[TokenId]>,
    /// Fragments in order.
    pub placements: Vec<Placement>,
    /// What is in no fragment; sees everything; not empty.
    pub tail: Vec<TokenId>,
}

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Nucleus: smallest set of tokens with this mass; 1 is off.
    pub top_p: f32,
    /// Most likely tokens kept; 0 is off.
    pub top_k: usize,
    /// Tokens kept have at least this share of the best one's probability; 0 is off.
    pub min_p: f32,
    /// Divides (or multiplies, when negative) logits of tokens seen in tail or answer; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted once from logits of tokens in the answer; 0 is off.
    pub presence_penalty: f32,
    /// Subtracted per occurrence from logits of tokens in the answer; 0 is off.
    pub frequency_penalty: f32,
    /// Key of the counter-based generator; the counter is the output position.
    pub seed: u64,
    /// The answer's first tokens, given instead of chosen, to score an answer that is known. Unlike
    /// tokens at the end of a tail they are no part of what a policy goes by.
    pub forced: Vec<TokenId>,
}

impl Sampling {
    /// Always the most likely token; the lower id of equals.
    pub const fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
            forced: Vec::new(),
        }
    }
}

/// One generation to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Whose it is.
    pub tenant: Arc<str>,
    /// How urgent it is.
    pub priority: Priority,
    /// What stands before the model.
    pub composition: Composition,
    /// How it is joined.
    pub policy: JoinPolicy,
    /// Rows to compute again instead of those that the policy would choose, by their sequential
    /// positions in the composition, ascending: for tests and experiments.
    pub selected: Option<Arc<[u32]>>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens that end the answer and are not part of it (end of turn, end of text).
    pub stop_tokens: Vec<TokenId>,
    /// Texts that end the answer and are not part of it.
    pub stop_strings: Vec<String>,
    /// Tokens to generate at most; 0 only scores.
    pub max_tokens: usize,
    /// Report log-probabilities with this many alternatives.
    pub logprobs: Option<usize>,
    /// Score the tail too (needs `logprobs`).
    pub echo: bool,
    /// Make a fragment of tail and answer when it ends, unless it is cancelled.
    pub seal: Option<Seal>,
}

/// A token's log-probability and the best alternatives, before temperature and penalties.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: TokenId,
    /// Its natural-log probability.
    pub logprob: f32,
    /// The most likely tokens with theirs, best first.
    pub top: Vec<(TokenId, f32)>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop token or a stop string.
    Stop,
    /// `max_tokens` reached.
    Length,
    /// The context is full: no position is left for another token.
    Context,
    /// Cancelled, or its reader went away.
    Cancelled,
}

/// What became of the tokens of a composition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Root tokens.
    pub root: usize,
    /// Tokens of placements whose KV was cached before this call.
    pub reused: usize,
    /// Tokens of placements that this call encoded, clean, because they were not cached.
    pub encoded: usize,
    /// Placement tokens computed again for this composition alone.
    pub recomputed: usize,
    /// Tail tokens.
    pub tail: usize,
    /// Root and tail tokens whose KV came from a cache.
    pub prefix_reused: usize,
    /// Generated tokens.
    pub output: usize,
}

impl Counts {
    /// Tokens forwarded before the first output token.
    pub const fn prefilled(&self) -> usize {
        self.root + self.encoded + self.recomputed + self.tail - self.prefix_reused
    }
}

/// Durations in milliseconds, by the engine's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
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
    /// From submit to the first token.
    pub first_token_ms: f64,
    /// Output tokens after the first, per second.
    pub decode_tokens_per_second: f64,
}

/// The end of a generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The policy used.
    pub policy: JoinPolicy,
    /// The answer is what plain concatenation would have computed.
    pub exact: bool,
    /// Token counts.
    pub counts: Counts,
    /// What joining cost of what computing every fragment again costs: rows times layers whose
    /// Q, K and V were computed for this composition alone, whatever for, over rows of placements
    /// times layers. 0 without placements; above 1 where choosing costs more than it saves.
    pub recomputed_share: f64,
    /// Rows computed again that the policy or the request chose, by their sequential positions.
    pub selected: Arc<[u32]>,
    /// The fragment that tail and answer became, when that was asked for.
    pub sealed: Option<FragmentId>,
    /// Durations.
    pub timings: Timings,
}

/// What a generation tells its reader, in order: `Chosen?`, `Scored?`, `Token*` (with `Swapped`
/// and `Restarted` among them), then `Finished` or `Failed`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The policy has scored rows and chosen these to compute again, by their sequential positions:
    /// given to another request as `selected`, they make it the same join. Comes once, before
    /// everything else.
    Chosen {
        /// Positions, ascending; none where nothing is computed again.
        selected: Arc<[u32]>,
    },
    /// The tail's scores (`echo`): one for each tail token from the second on; then the
    /// alternatives for the token after the last.
    Scored {
        /// Scores of `tail[1..]`.
        tail: Vec<TokenLogprob>,
        /// The most likely next tokens.
        next_top: Vec<(TokenId, f32)>,
    },
    /// One generated token.
    Token {
        /// The token.
        token: TokenId,
        /// Text it completes; empty while a character or a possible stop string is incomplete.
        text: String,
        /// Scores, when asked for.
        logprob: Option<TokenLogprob>,
    },
    /// Other fragments stand in the place of some, since the answer has so many tokens.
    Swapped {
        /// Placements that went.
        range: Range<usize>,
        /// Tokens of those that stand there now.
        with: Vec<Arc<[TokenId]>>,
        /// Tokens of the answer that were there before.
        at: usize,
    },
    /// After a swap the generation gave its place back to others: all of its tail and answer will be
    /// computed again, over what is placed now.
    Restarted {
        /// Tokens of the answer that were there before.
        at: usize,
    },
    /// The end; `text` is what was still held back.
    Finished {
        /// Text held back until now.
        text: String,
        /// The account.
        summary: Summary,
    },
    /// The generation could not go on.
    Failed(RequestError),
}

/// The caller's mistakes, each with the limit and the value given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A root, fragment or tail without tokens.
    #[error("{what} is empty: at least one token is needed")]
    Empty {
        /// Which part.
        what: &'static str,
    },
    /// A token id outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocab} tokens")]
    UnknownToken {
        /// Given.
        token: TokenId,
        /// Limit.
        vocab: usize,
    },
    /// No such fragment, or it belongs to someone else.
    #[error("no fragment {0}")]
    UnknownFragment(FragmentId),
    /// The composition does not fit the model's context.
    #[error("the composition needs {given} positions; the context holds {limit}")]
    ContextTooLong {
        /// Positions needed before the first output token.
        given: usize,
        /// The model's context.
        limit: usize,
    },
    /// It could never fit the KV memory, even alone.
    #[error("the request needs {given} KV pages; the memory holds {limit}")]
    MemoryTooSmall {
        /// Pages needed.
        given: usize,
        /// Pages in the pool.
        limit: usize,
    },
    /// Too many requests wait already.
    #[error("{given} requests are waiting; the limit is {limit}")]
    QueueFull {
        /// Waiting now.
        given: usize,
        /// The limit.
        limit: usize,
    },
    /// A number outside its range.
    #[error("{name} is {given}; it must be {expected}")]
    OutOfRange {
        /// Parameter.
        name: &'static str,
        /// Given value, printed.
        given: String,
        /// Allowed range in words.
        expected: &'static str,
    },
    /// A generation that is not there or has ended cannot be changed.
    #[error("generation {} does not run", .0.0)]
    NotRunning(SequenceId),
    /// What is swapped in must be there.
    #[error("the KV of fragment {0} is not in memory")]
    NotCached(FragmentId),
    /// The fragment is in use and cannot be deleted now.
    #[error("fragment {0} is in use by {1} sequences")]
    InUse(FragmentId, usize),
    /// The engine stopped or is shutting down.
    #[error("the engine is not running: {0}")]
    EngineDown(String),
}

/// Counters and gauges of the engine at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Steps of the loop that ran a batch.
    pub steps: u64,
    /// Pages in the pool.
    pub pages: usize,
    /// Pages nobody owns.
    pub pages_free: usize,
    /// Pages that live sequences alone own.
    pub pages_sequences: usize,
    /// Fragments known.
    pub fragments: usize,
    /// Fragments whose KV is in memory.
    pub fragments_cached: usize,
    /// Fragments and roots that a tier keeps.
    pub fragments_stored: usize,
    /// What the tier says of itself; zeros without one.
    pub tier: Figures,
    /// The part of them that is about this machine's memory.
    pub tier_host: Figures,
    /// The part of them that is about a store which other servers use, too.
    pub tier_shared: Figures,
    /// Overlays in memory: rows computed again for a composition.
    pub overlays: usize,
    /// Generations waiting for a place.
    pub waiting: usize,
    /// Generations running.
    pub running: usize,
    /// Tokens encoded into fragments.
    pub tokens_encoded: u64,
    /// Tokens of fragments and roots whose KV came from a tier.
    pub tokens_loaded: u64,
    /// Tokens prefilled for tails and `recompute`.
    pub tokens_prefilled: u64,
    /// Fragment tokens computed again for a composition.
    pub tokens_repaired: u64,
    /// Tail and fragment tokens forwarded to choose what is computed again.
    pub tokens_scored: u64,
    /// Fragment tokens reused without computing.
    pub tokens_reused: u64,
    /// Root and prefix tokens taken from the exact-prefix cache.
    pub tokens_prefix_reused: u64,
    /// Rows of tails and answers taken over from a running sequence that begins alike.
    pub rows_adopted: u64,
    /// Rows copied for that: what stood in a last page that was not full.
    pub rows_copied: u64,
    /// Tokens generated.
    pub tokens_generated: u64,
    /// Swaps in running generations.
    pub swaps: u64,
    /// Fragments evicted.
    pub evictions: u64,
    /// Sequences preempted.
    pub preemptions: u64,
    /// Generations finished, failed or cancelled.
    pub generations_ended: u64,
}

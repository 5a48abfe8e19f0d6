//! First token of a composition of cached fragments, joined against prefilled.

use crate::{cpu::median, session::Session};
use anyhow::ensure;
use engine::{Composition, FragmentSpec, JoinPolicy, Priority};
use serde::Serialize;

/// Fragments in the composition.
const FRAGMENTS: usize = 8;
/// Tokens of each.
const FRAGMENT_TOKENS: usize = 512;
/// Tokens of the tail.
const TAIL_TOKENS: usize = 32;

/// Milliseconds from submit to the first token.
#[derive(Serialize)]
pub(crate) struct Joined {
    fragments: usize,
    fragment_tokens: usize,
    tail_tokens: usize,
    /// `reuse` over fragments that are all cached.
    first_token_ms: f64,
    /// Plain concatenation of the same tokens, nothing cached but the root.
    prefill_first_token_ms: f64,
    ratio: f64,
}

/// Puts the fragments once, then times a fresh tail over them, and one full prefill.
pub(crate) fn measure(session: &Session, runs: usize) -> anyhow::Result<Joined> {
    let fragments: Vec<std::sync::Arc<[u32]>> = (0..FRAGMENTS as u64)
        .map(|i| session.filler((1 << 21) + i, FRAGMENT_TOKENS).into())
        .collect();
    for tokens in &fragments {
        session.engine.put_fragment(FragmentSpec {
            tenant: "bench".into(),
            root: session.root.clone(),
            tokens: tokens.clone(),
            priority: Priority::Normal,
            pin: false,
        })?;
    }
    let first_token = |policy, run: usize| {
        let tail = session.filler((1 << 22) + run as u64, TAIL_TOKENS);
        let placements = fragments.iter().map(|tokens| tokens.clone().into()).collect();
        let composition = Composition { root: session.root.clone(), placements, tail };
        session.generate(composition, policy, 1)
    };
    let mut joined = Vec::new();
    for run in 0..runs {
        let answer = first_token(JoinPolicy::Reuse, run)?;
        let reused = answer.counts.reused;
        ensure!(reused == FRAGMENTS * FRAGMENT_TOKENS, "only {reused} tokens were reused");
        joined.push(answer.timings.first_token_ms);
    }
    // Once: a second full prefill would find the first one's exact prefix.
    let prefilled = first_token(JoinPolicy::Recompute, runs)?;
    let computed = prefilled.counts.recomputed;
    ensure!(computed == FRAGMENTS * FRAGMENT_TOKENS, "only {computed} tokens were prefilled");
    let first_token_ms = median(joined);
    let prefill_first_token_ms = prefilled.timings.first_token_ms;
    Ok(Joined {
        fragments: FRAGMENTS,
        fragment_tokens: FRAGMENT_TOKENS,
        tail_tokens: TAIL_TOKENS,
        first_token_ms,
        prefill_first_token_ms,
        ratio: prefill_first_token_ms / first_token_ms,
    })
}

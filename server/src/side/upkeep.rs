//! Upkeep: side contexts are written anew and encoded ahead of the calls that place them.

use crate::{
    ApiError, AppState, blocking,
    limits::{SIDE_UPKEEP_INTERVAL, SIDE_UPKEEPS_MAX},
    live,
    side::{Ahead, Kind, Piece, SideContext, Turned},
};
use engine::{FragmentSpec, Priority, RequestError};
use models::TokenId;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::task::JoinSet;

/// Keeps all side contexts current, and what running generations read of them, for ever.
pub async fn upkeep(state: Arc<AppState>) {
    tokio::join!(keep_all(Arc::clone(&state)), live::keep_current(state));
}

/// Several at once, and the longest unchanged first where they are many. Each is a few tokens; how many
/// of a step they take, the engine decides. Clocks turn when it is time, whatever else goes on.
async fn keep_all(state: Arc<AppState>) {
    let (mut at_work, mut busy) = (JoinSet::new(), HashSet::new());
    loop {
        let next = state.side_contexts.next_turn().unwrap_or(Duration::MAX);
        let left = next.saturating_sub(state.time.unix());
        tokio::time::sleep(left.min(SIDE_UPKEEP_INTERVAL)).await;
        turn(&state);
        while let Some(done) = at_work.try_join_next() {
            done.ok().map(|key| busy.remove(&key));
        }
        for key in state.side_contexts.due(state.time.unix()) {
            if busy.len() < SIDE_UPKEEPS_MAX && busy.insert(key.clone()) {
                at_work.spawn(keep(Arc::clone(&state), key));
            }
        }
    }
}

/// Turns the clocks that are ready and due.
fn turn(state: &AppState) {
    let turned = state.side_contexts.turn(state.time.unix());
    if !turned.is_empty() {
        state.side_contexts.renewed().notify_one();
    }
    for (tenant, Turned { root, gone }) in turned {
        if let Some(tokens) = gone {
            forget_tokens(state, &tenant, &root, &tokens);
        }
    }
}

/// Keeps one current.
async fn keep(state: Arc<AppState>, key: (Arc<str>, String)) -> (Arc<str>, String) {
    let (tenant, id) = key.clone();
    let kept = blocking(move || {
        let root = state.side_contexts.with(&tenant, &id, |context| context.root.clone())?;
        refresh(&state, &tenant, &id, root.as_ref()).map(drop)
    });
    // It may have been deleted since, or the engine is going down.
    if let Err(error) = kept.await {
        tracing::debug!(%error, "a side context was not kept");
    }
    key
}

/// A side context as it is now: a clock whose tick is over and an inbox that changed are written anew,
/// and what is too old rolls off. With a root, what changed is encoded there, and so is what a clock will
/// say next; what is replaced is forgotten. Blocking.
///
/// # Errors
/// There is none of that id, or the engine refuses its tokens.
pub fn refresh(
    state: &AppState,
    tenant: &Arc<str>,
    id: &str,
    root: Option<&Arc<[TokenId]>>,
) -> Result<SideContext, ApiError> {
    let now = state.time.unix();
    let turned = state.side_contexts.with(tenant, id, |context| context.turn(now))?;
    if let Some(Turned { root, gone: Some(tokens) }) = turned {
        forget_tokens(state, tenant, &root, &tokens);
    }
    let before = state.side_contexts.get(tenant, id)?;
    let due = before.due(now).map_err(|error| ApiError::internal(error.to_string()))?;
    let written =
        due.map(|(text, at)| pieces_tokens(state, &before, &text).map(|tokens| (text, tokens, at)));
    let written = written.transpose()?;
    if let (Some((_, tokens, _)), Some(root)) = (&written, root) {
        // Ahead of the swap, so that a call finds either version encoded.
        encode(state, tenant, root, tokens)?;
    }
    let after = state.side_contexts.with(tenant, id, |context| {
        // Where something came meanwhile, whoever brought it writes it.
        if let Some((text, tokens, at)) = written.filter(|_| context.still_awaits(&before)) {
            context.rewrite(text, tokens, at);
            let is_there = root.is_some() && context.root.as_ref() == root;
            context.encoded = is_there.then_some(context.version).or(context.encoded);
        }
        context.roll_off(now);
        context.clone()
    })?;
    let after = with_stub(state, tenant, after)?;
    let Some(root) = root else { return Ok(after) };
    // What is encoded already is left alone: it ages like any fragment.
    if after.encoded != Some(after.version) {
        for piece in after.placed() {
            encode(state, tenant, root, &piece.tokens)?;
        }
        state.side_contexts.with(tenant, id, |context| context.encoded = Some(after.version))?;
    }
    if before.encoded != Some(after.version) {
        state.side_contexts.renewed().notify_one();
    }
    forget(state, tenant, root, (&before, &after));
    look_ahead(state, tenant, &after)?;
    Ok(after)
}

/// Encodes what a clock will say next, where that is soon: at its tick there is nothing left to do.
fn look_ahead(state: &AppState, tenant: &Arc<str>, context: &SideContext) -> Result<(), ApiError> {
    let Some((at, root, text)) = context.next_text(state.time.unix()) else { return Ok(()) };
    let tokens = pieces_tokens(state, context, &text)?;
    encode(state, tenant, &root, &tokens)?;
    let ahead = Ahead { at, text, tokens, root };
    state.side_contexts.with(tenant, &context.id, |context| context.ahead = Some(ahead))
}

/// A log says how much rolled off.
fn with_stub(
    state: &AppState,
    tenant: &Arc<str>,
    context: SideContext,
) -> Result<SideContext, ApiError> {
    let count = context.rolled_off;
    let text = format!("({count} earlier entries are left out.)\n");
    let is_told = context.stub.as_ref().is_some_and(|stub| stub.text == text);
    if !matches!(context.kind, Kind::Log) || count == 0 || is_told {
        return Ok(context);
    }
    let tokens = pieces_tokens(state, &context, &text)?;
    let stub = Piece { number: 0, at: context.changed, text, tokens };
    state.side_contexts.with(tenant, &context.id, |context| {
        context.stub = Some(stub);
        context.clone()
    })
}

/// Tokens of a piece's text.
///
/// # Errors
/// The chat template does not know the context's role.
pub(crate) fn pieces_tokens(
    state: &AppState,
    context: &SideContext,
    text: &str,
) -> Result<Arc<[TokenId]>, ApiError> {
    let tokens = state.turns.part(context.role.as_deref(), text);
    let tokens = tokens.map_err(|error| ApiError::bad_request("role", format!("role: {error}")))?;
    if tokens.is_empty() {
        return Err(ApiError::bad_request("text", "text has no tokens").with_code("empty"));
    }
    Ok(tokens.into())
}

/// Encodes a piece, as work that nobody waits for. Blocking.
pub(crate) fn encode(
    state: &AppState,
    tenant: &Arc<str>,
    root: &Arc<[TokenId]>,
    tokens: &Arc<[TokenId]>,
) -> Result<(), RequestError> {
    let (tenant, root, tokens) = (Arc::clone(tenant), Arc::clone(root), Arc::clone(tokens));
    state.engine.put_fragment(FragmentSpec {
        tenant,
        root,
        tokens,
        pin: false,
        priority: Priority::Low,
    })?;
    Ok(())
}

/// Forgets the fragments of pieces that are gone, but for those that a client put itself.
pub(super) fn forget(
    state: &AppState,
    tenant: &Arc<str>,
    root: &Arc<[TokenId]>,
    (before, after): (&SideContext, &SideContext),
) {
    let gone =
        before.placed().filter(|piece| after.placed().all(|kept| kept.tokens != piece.tokens));
    for piece in gone {
        forget_tokens(state, tenant, root, &piece.tokens);
    }
}

fn forget_tokens(state: &AppState, tenant: &Arc<str>, root: &[TokenId], tokens: &Arc<[TokenId]>) {
    let id = state.engine.fragment_id(tenant, root, tokens);
    if state.fragment_names.get(tenant, id).is_none() {
        // A generation may hold it still, or memory ran short: then it goes with the others. Nobody waits
        // for the answer.
        let _ = state.engine.begin_drop(tenant, id);
    }
}

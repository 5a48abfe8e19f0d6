//! What comes into a side context and is taken away, whoever brings it: a client or a source.

use super::{Kind, Message, SideContext, pieces_tokens, refresh, upkeep::forget};
use crate::{
    ApiError, AppState,
    api::compose::at_most,
    limits::{INBOX_GIST_BYTES_MAX, NAME_BYTES_MAX, SIDE_ENTRIES_MAX, SIDE_ENTRY_BYTES_MAX},
    sources::SourceSpec,
};
use axum::http::StatusCode;
use std::sync::Arc;

/// What comes in.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewEntry {
    /// A feed's or a log's entry.
    pub(crate) text: Option<String>,
    /// An inbox's message: what it is about.
    pub(crate) gist: Option<String>,
    /// Who sent it.
    pub(crate) from: Option<String>,
    /// Its id.
    pub(crate) message: Option<String>,
    /// What it was read from, where no client brings it.
    pub(crate) source: Option<Arc<SourceSpec>>,
}

/// What became of it.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    /// Its number.
    pub(crate) number: u64,
    /// The context's version with it.
    pub(crate) version: u64,
    /// Numbers of the entries that rolled off for it.
    pub(crate) rolled_off: Vec<u64>,
}

/// Adds an entry. Blocking.
///
/// # Errors
/// There is no such context, it takes no such entry, or it is not fed from that source any more.
pub(crate) fn push_entry(
    state: &AppState,
    tenant: &Arc<str>,
    id: &str,
    entry: NewEntry,
) -> Result<Pushed, ApiError> {
    let context = state.side_contexts.get(tenant, id)?;
    entry.check(&context.kind)?;
    if let Kind::Inbox(_) = context.kind {
        return push_message(state, tenant, &context, entry);
    }
    let text = entry.text.unwrap_or_default();
    let tokens = pieces_tokens(state, &context, &text)?;
    let now = state.time.unix();
    state.side_contexts.with(tenant, id, |context| {
        if let Some(source) = &entry.source {
            context.check_fed_from(source)?;
        }
        let number = context.push(text, tokens, now);
        let rolled_off = context.roll_off(now);
        Ok(Pushed { number, version: context.version, rolled_off })
    })?
}

fn push_message(
    state: &AppState,
    tenant: &Arc<str>,
    before: &SideContext,
    entry: NewEntry,
) -> Result<Pushed, ApiError> {
    let message = Message {
        number: 0,
        at: state.time.unix(),
        from: entry.from,
        gist: entry.gist.unwrap_or_default(),
        id: entry.message,
    };
    let added = state.side_contexts.with(tenant, &before.id, |context| context.add(message))?;
    let number = added.map_err(|_| {
        let message = format!("{SIDE_ENTRIES_MAX} messages wait; that is the limit: read some");
        ApiError::new(StatusCode::CONFLICT, message).with_code("inbox_full")
    })?;
    let context = shown(state, tenant, before)?;
    Ok(Pushed { number, version: context.version, rolled_off: Vec::new() })
}

/// Takes an entry away, or a message that was read; returns the context's version then. Blocking.
///
/// # Errors
/// There is no such context, or no such entry in it.
pub(crate) fn take_entry(
    state: &AppState,
    tenant: &Arc<str>,
    id: &str,
    number: u64,
) -> Result<u64, ApiError> {
    let before = state.side_contexts.get(tenant, id)?;
    if let Kind::Clock(_) = before.kind {
        return Err(no_entries());
    }
    let now = state.time.unix();
    if !state.side_contexts.with(tenant, id, |context| context.take(number, now))? {
        let message = format!("{id} has no entry {number}; it may have rolled off or been taken");
        return Err(ApiError::not_found(message).with_code("entry_not_found"));
    }
    Ok(shown(state, tenant, &before)?.version)
}

/// What a change made of a context, once an inbox's text shows it. Of what went nothing is kept.
fn shown(
    state: &AppState,
    tenant: &Arc<str>,
    before: &SideContext,
) -> Result<SideContext, ApiError> {
    let after = loop {
        let context = refresh(state, tenant, &before.id, None)?;
        match &context.kind {
            // Another message came meanwhile.
            Kind::Inbox(inbox) if inbox.is_stale() => {}
            _ => break context,
        }
    };
    if let Some(root) = &after.root {
        forget(state, tenant, root, (before, &after));
    }
    Ok(after)
}

impl NewEntry {
    /// A text that was read from a source.
    pub(crate) fn read(text: String, source: Arc<SourceSpec>) -> Self {
        Self { text: Some(text), source: Some(source), ..Self::default() }
    }

    /// 400: the kind takes no such entry, or a field is too long.
    fn check(&self, kind: &Kind) -> Result<(), ApiError> {
        let text = ("text", &self.text, SIDE_ENTRY_BYTES_MAX);
        let gist = ("gist", &self.gist, INBOX_GIST_BYTES_MAX);
        let from = ("from", &self.from, NAME_BYTES_MAX);
        let message = ("message", &self.message, NAME_BYTES_MAX);
        let (needed, refused, takes): (_, &[_], _) = match kind {
            Kind::Clock(_) => return Err(no_entries()),
            Kind::Feed | Kind::Log => (text, &[gist, from, message], "text"),
            Kind::Inbox(_) => (gist, &[text], "gist, from and message, and never a body"),
        };
        let name = kind.name();
        if let Some((field, ..)) = refused.iter().find(|(_, given, _)| given.is_some()) {
            let message = format!("entries of this {name} have no {field}: it takes {takes}");
            return Err(ApiError::bad_request(*field, message).with_code("unknown_field"));
        }
        let (field, given, _) = needed;
        if given.is_none() {
            let message = format!("entries of this {name} need {field}: it takes {takes}");
            return Err(ApiError::bad_request(field, message).with_code("missing_field"));
        }
        for (field, given, limit) in [text, gist, from, message] {
            at_most(field, "bytes", given.as_ref().map_or(0, String::len), limit)?;
        }
        Ok(())
    }
}

fn no_entries() -> ApiError {
    let message = "a clock takes no entries; it writes the time by itself";
    ApiError::bad_request("id", message).with_code("no_entries")
}

#[cfg(test)]
mod tests;

//! Turns of clocks: the next text is encoded before its time, and takes its place when its tick begins.
//!
//! What a clock says is known ahead, so that nothing but a swap is left to do at the tick, however busy
//! the engine is.

use crate::{
    limits::CLOCK_AHEAD,
    side::{Clock, Kind, SideContext},
};
use models::TokenId;
use std::{sync::Arc, time::Duration};

/// A clock's text before its time has come.
#[derive(Clone, Debug)]
pub(crate) struct Ahead {
    /// When its tick begins, since the Unix epoch.
    pub(crate) at: Duration,
    pub(crate) text: String,
    pub(crate) tokens: Arc<[TokenId]>,
    /// What it is encoded after.
    pub(crate) root: Arc<[TokenId]>,
}

/// A clock's turn from one text to the next.
#[derive(Debug)]
pub(crate) struct Turned {
    pub(crate) root: Arc<[TokenId]>,
    /// The text before the last: who reads live has left it.
    pub(crate) gone: Option<Arc<[TokenId]>>,
}

impl SideContext {
    /// The moment whose time a clock is to tell from now on, unless it does.
    pub(super) fn tick_due(&self, clock: &Clock, now: Duration) -> Option<Duration> {
        if self.version == 0 || self.changed.is_zero() {
            return Some(now);
        }
        let began = clock.began(now);
        // What was written later than now was before the machine's clock was put back.
        (began > self.changed || now < self.changed).then_some(began)
    }

    /// The text that a clock will tell soon, to be encoded after this root ahead of its time; `None`
    /// where it is encoded, or that is a while off.
    pub(crate) fn next_text(&self, now: Duration) -> Option<(Duration, Arc<[TokenId]>, String)> {
        let (Kind::Clock(clock), Some(root)) = (&self.kind, &self.root) else { return None };
        let at = clock.began(now) + clock.tick;
        let is_known = |ahead: &Ahead| ahead.at == at && ahead.root == *root;
        let is_soon = at <= now + CLOCK_AHEAD && self.encoded == Some(self.version);
        if !is_soon || self.ahead.as_ref().is_some_and(is_known) {
            return None;
        }
        Some((at, Arc::clone(root), clock.write(at).ok()?))
    }

    /// A clock whose next text is encoded already tells it, once its time has come. Returns what nobody
    /// places any more.
    pub(crate) fn turn(&mut self, now: Duration) -> Option<Turned> {
        // Told or not: its time is over.
        let ahead = self.ahead.take_if(|ahead| ahead.at <= now)?;
        let (text, at) = self.due(now).ok()??;
        let is_due =
            ahead.at == at && ahead.text == text && self.root.as_ref() == Some(&ahead.root);
        if !is_due {
            return None;
        }
        let before = self.pieces.front().map(|piece| Arc::clone(&piece.tokens));
        self.rewrite(text, Arc::clone(&ahead.tokens), at);
        self.encoded = Some(self.version);
        let gone = std::mem::replace(&mut self.behind, before);
        let is_placed =
            |tokens: &Arc<[TokenId]>| self.placed().any(|piece| piece.tokens == *tokens);
        let gone = gone.filter(|gone| !is_placed(gone) && self.behind.as_ref() != Some(gone));
        Some(Turned { root: ahead.root, gone })
    }
}

#[cfg(test)]
mod tests;

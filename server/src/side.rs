//! Side contexts: small contexts that the server keeps current (a clock, a feed, a log, an inbox).
//!
//! Each is a few short fragments: a clock's time, a feed's entries. A change makes new fragments and
//! leaves all others as they are, so keeping it current costs its own few tokens. Owns what they hold
//! and when it changed; what that means to a model is in `upkeep.rs`, who may ask in
//! `api/side_contexts.rs`, what they are fed from besides in `sources/`.

mod clock;
mod entries;
mod events;
mod inbox;
mod turns;
mod upkeep;

pub use clock::{Clock, ClockError};
pub(crate) use entries::{NewEntry, push_entry, take_entry};
pub use events::{Bound, SideEvent};
pub(crate) use events::{EventLog, EventReader, Reading, Totals};
pub use inbox::{Full, Inbox, Message};
pub(crate) use turns::{Ahead, Turned};
pub(crate) use upkeep::{encode, pieces_tokens};
pub use upkeep::{refresh, upkeep};

use crate::{
    ApiError,
    limits::{SIDE_CONTEXTS_MAX, SIDE_ENTRIES_MAX, SOURCES_MAX},
    sources::{Feeding, SourceSpec},
};
use models::TokenId;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// What a side context is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// The time, written by a template.
    Clock(Clock),
    /// Entries; what rolls off is gone.
    Feed,
    /// A record; what rolls off leaves a line that says how much.
    Log,
    /// What waits in a mailbox, written anew with every change.
    Inbox(Inbox),
}

impl Kind {
    /// The wire's word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Clock(_) => "clock",
            Self::Feed => "feed",
            Self::Log => "log",
            Self::Inbox(_) => "inbox",
        }
    }
}

/// When entries roll off: the oldest first, while any bound is passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roll {
    /// Tokens of all entries.
    pub tokens: Option<usize>,
    /// Entries; lines of an inbox.
    pub entries: Option<usize>,
    /// Time since an entry came.
    pub age: Option<Duration>,
}

/// One piece of a side context: a fragment where it is placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Number within its context; 0 is what the context says of itself.
    pub number: u64,
    /// When it came, since the Unix epoch.
    pub at: Duration,
    /// Its text.
    pub text: String,
    /// Its tokens, role's text included.
    pub tokens: Arc<[TokenId]>,
}

/// A small context that is kept current.
#[derive(Clone, Debug)]
pub struct SideContext {
    /// `sc_..`.
    pub id: String,
    /// The client's name for it.
    pub name: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// Each piece is a turn of this role.
    pub role: Option<String>,
    /// When entries roll off.
    pub roll: Roll,
    /// When it was made, since the Unix epoch.
    pub created: Duration,
    /// Goes up with every change.
    pub version: u64,
    /// When it changed last, since the Unix epoch.
    pub changed: Duration,
    /// Pieces in order: the clock's time, the entries, or the inbox's text.
    pub pieces: VecDeque<Piece>,
    /// Entries that rolled off so far.
    pub rolled_off: u64,
    /// What stands for them, in a log.
    pub stub: Option<Piece>,
    /// The root it was last placed after: what changes is encoded there ahead of the next call.
    pub root: Option<Arc<[TokenId]>>,
    /// The version that is encoded there.
    pub encoded: Option<u64>,
    /// A clock's next text, where it is encoded already.
    pub(crate) ahead: Option<Ahead>,
    /// The tokens that the latest turn replaced: whoever reads live may still hold them.
    behind: Option<Arc<[TokenId]>>,
    /// What it is fed from besides pushes.
    pub feeding: Option<Feeding>,
    /// What happens to it.
    pub(crate) events: EventLog,
    next: u64,
}

impl SideContext {
    /// Empty.
    pub fn new(id: String, kind: Kind, now: Duration) -> Self {
        Self {
            id,
            name: None,
            kind,
            role: None,
            roll: Roll::default(),
            created: now,
            version: 0,
            changed: now,
            pieces: VecDeque::new(),
            rolled_off: 0,
            stub: None,
            root: None,
            encoded: None,
            ahead: None,
            behind: None,
            feeding: None,
            events: EventLog::new(Arc::default()),
            next: 1,
        }
    }

    /// What it is fed from, while that is what `spec` was made for: another that reads the same is another.
    pub(crate) fn fed_from(&mut self, spec: &Arc<SourceSpec>) -> Option<&mut Feeding> {
        self.feeding.as_mut().filter(|feeding| Arc::ptr_eq(&feeding.spec, spec))
    }

    /// Refuses what a source brings that it is not fed from any more.
    pub(crate) fn check_fed_from(&mut self, spec: &Arc<SourceSpec>) -> Result<(), ApiError> {
        if self.fed_from(spec).is_some() {
            return Ok(());
        }
        let message = format!("{} is not fed from that any more", self.id);
        Err(ApiError::bad_request("source", message).with_code("source_changed"))
    }

    /// All pieces as they stand in a composition.
    pub fn placed(&self) -> impl Iterator<Item = &Piece> {
        self.stub.iter().chain(&self.pieces)
    }

    /// Tokens of all pieces.
    pub fn tokens(&self) -> usize {
        self.placed().map(|piece| piece.tokens.len()).sum()
    }

    /// Adds an entry, and returns its number.
    pub fn push(&mut self, text: String, tokens: Arc<[TokenId]>, now: Duration) -> u64 {
        let number = self.number();
        self.pieces.push_back(Piece { number, at: now, text, tokens });
        self.change((vec![number], Vec::new()), now);
        number
    }

    /// Adds a message to an inbox, and returns its number; the text is still to be written.
    ///
    /// # Errors
    /// It holds as many as it may.
    pub fn add(&mut self, message: Message) -> Result<u64, Full> {
        let Kind::Inbox(inbox) = &mut self.kind else { return Err(Full) };
        let number = self.next;
        inbox.add(Message { number, ..message })?;
        self.next += 1;
        Ok(number)
    }

    /// Takes an entry away, or a message that was read; false when there is none of that number.
    pub fn take(&mut self, number: u64, now: Duration) -> bool {
        if let Kind::Inbox(inbox) = &mut self.kind {
            return inbox.take(number);
        }
        let place = self.pieces.iter().position(|piece| piece.number == number);
        if let Some(place) = place {
            self.pieces.remove(place);
            self.change((Vec::new(), vec![number]), now);
        }
        place.is_some()
    }

    /// The text that is due to be written anew, and since when: a clock's when its tick is over, an
    /// inbox's when something came or was read.
    ///
    /// # Errors
    /// The clock cannot write that time.
    pub fn due(&self, now: Duration) -> Result<Option<(String, Duration)>, ClockError> {
        match &self.kind {
            Kind::Clock(clock) => {
                let since = self.tick_due(clock, now);
                since.map(|since| Ok((clock.write(since)?, since))).transpose()
            }
            Kind::Inbox(inbox) => {
                Ok(inbox.is_stale().then(|| (inbox.write(self.roll.entries), now)))
            }
            Kind::Feed | Kind::Log => Ok(None),
        }
    }

    /// Upkeep has something to do: a text is due, something is too old, or what changed is not encoded.
    fn awaits_upkeep(&self, now: Duration) -> bool {
        let is_encoded = self.root.is_none() || self.encoded == Some(self.version);
        let is_written = matches!(self.due(now), Ok(None)) && self.next_text(now).is_none();
        !is_encoded || self.passed(now).is_some() || !is_written
    }

    /// A text that was due when it was as `before` may be put in place.
    pub fn still_awaits(&self, before: &Self) -> bool {
        match (&self.kind, &before.kind) {
            (Kind::Inbox(inbox), Kind::Inbox(before)) => inbox.is_still(before),
            _ => true,
        }
    }

    /// Puts `text` in the place of all pieces, as clocks and inboxes do.
    pub fn rewrite(&mut self, text: String, tokens: Arc<[TokenId]>, now: Duration) {
        let (number, numbers) = if let Kind::Inbox(inbox) = &mut self.kind {
            let unshown = inbox.show();
            (0, (unshown.added, unshown.removed))
        } else {
            let removed = self.pieces.iter().map(|piece| piece.number).collect();
            let number = self.number();
            (number, (vec![number], removed))
        };
        self.pieces = [Piece { number, at: now, text, tokens }].into();
        self.change(numbers, now);
    }

    /// Takes off the oldest entries while a bound is passed, and returns their numbers. The newest
    /// entry stays, unless it is too old.
    pub fn roll_off(&mut self, now: Duration) -> Vec<u64> {
        let mut gone = Vec::new();
        while let Some(why) = self.passed(now) {
            gone.extend(self.pieces.pop_front().map(|piece| (why, piece.number)));
        }
        if !gone.is_empty() {
            self.rolled_off += gone.len() as u64;
            (self.version, self.changed) = (self.version + 1, now);
        }
        for run in gone.chunk_by(|(why, _), (next, _)| why == next) {
            self.events.append(SideEvent::RolledOff {
                version: self.version,
                entries: run.iter().map(|(_, number)| *number).collect(),
                why: run[0].0,
                tokens: self.tokens(),
            });
        }
        gone.into_iter().map(|(_, number)| number).collect()
    }

    /// The bound for which the oldest entry is to go.
    fn passed(&self, now: Duration) -> Option<Bound> {
        let Roll { tokens, entries, age } = self.roll;
        let oldest = self.pieces.front()?;
        let held: usize = self.pieces.iter().map(|piece| piece.tokens.len()).sum();
        if age.is_some_and(|most| now.saturating_sub(oldest.at) > most) {
            Some(Bound::Age)
        } else if self.pieces.len() == 1 {
            None
        } else if self.pieces.len() > entries.unwrap_or(SIDE_ENTRIES_MAX) {
            Some(Bound::Entries)
        } else {
            tokens.is_some_and(|most| held > most).then_some(Bound::Tokens)
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn change(&mut self, (added, removed): (Vec<u64>, Vec<u64>), now: Duration) {
        (self.version, self.changed) = (self.version + 1, now);
        let (version, tokens) = (self.version, self.tokens());
        self.events.append(SideEvent::Changed { version, added, removed, tokens, at: now });
    }
}

/// All side contexts of a server.
#[derive(Debug, Default)]
pub struct SideContexts {
    contexts: Mutex<BTreeMap<(Arc<str>, String), SideContext>>,
    totals: Arc<Totals>,
    /// A newer version of one is encoded.
    renewed: Notify,
}

impl SideContexts {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps a new one.
    ///
    /// # Errors
    /// The tenant has as many as it may.
    pub fn add(&self, tenant: &Arc<str>, mut context: SideContext) -> Result<(), ApiError> {
        context.events = EventLog::new(Arc::clone(&self.totals));
        let mut contexts = self.lock();
        let own = || contexts.iter().filter(|((owner, _), _)| owner == tenant);
        let held = own().count();
        if held >= SIDE_CONTEXTS_MAX {
            let message =
                format!("{held} side contexts are there; the limit is {SIDE_CONTEXTS_MAX}");
            return Err(ApiError::bad_request("kind", message).with_code("too_many"));
        }
        let fed = own().filter(|(_, context)| context.feeding.is_some()).count();
        check_sources(fed, context.feeding.as_ref())?;
        contexts.insert((Arc::clone(tenant), context.id.clone()), context);
        Ok(())
    }

    /// Feeds one from something else from now on, or from nothing: nothing comes of what it was fed from any
    /// more, which is stopped and returned.
    ///
    /// # Errors
    /// There is none of that id, or the tenant has as many sources as it may.
    pub(crate) fn feed(
        &self,
        tenant: &Arc<str>,
        id: &str,
        feeding: Option<Feeding>,
    ) -> Result<Option<Feeding>, ApiError> {
        let mut contexts = self.lock();
        let others = contexts.iter().filter(|((owner, other), _)| owner == tenant && other != id);
        let fed = others.filter(|(_, context)| context.feeding.is_some()).count();
        let found = contexts.get_mut(&(Arc::clone(tenant), id.to_owned()));
        let context = found.ok_or_else(|| unknown(id))?;
        check_sources(fed, feeding.as_ref())?;
        let before = std::mem::replace(&mut context.feeding, feeding);
        if let Some(before) = &before {
            before.stop();
        }
        let source = context.feeding.as_ref().map(|feeding| Arc::clone(&feeding.spec));
        if before.is_some() || source.is_some() {
            context.events.append(SideEvent::SourceChanged { source });
        }
        Ok(before)
    }

    /// Does something to one of the tenant's.
    ///
    /// # Errors
    /// There is none of that id.
    pub fn with<T>(
        &self,
        tenant: &Arc<str>,
        id: &str,
        act: impl FnOnce(&mut SideContext) -> T,
    ) -> Result<T, ApiError> {
        let mut contexts = self.lock();
        let found = contexts.get_mut(&(Arc::clone(tenant), id.to_owned()));
        found.map(act).ok_or_else(|| unknown(id))
    }

    /// A copy of one of the tenant's.
    ///
    /// # Errors
    /// There is none of that id.
    pub fn get(&self, tenant: &Arc<str>, id: &str) -> Result<SideContext, ApiError> {
        self.with(tenant, id, |context| context.clone())
    }

    /// Copies of all of a tenant's, by id.
    pub fn list(&self, tenant: &Arc<str>) -> Vec<SideContext> {
        let contexts = self.lock();
        contexts.iter().filter(|((owner, _), _)| owner == tenant).map(|(_, c)| c.clone()).collect()
    }

    /// Forgets one.
    ///
    /// # Errors
    /// There is none of that id.
    pub fn remove(&self, tenant: &Arc<str>, id: &str) -> Result<SideContext, ApiError> {
        let removed = self.lock().remove(&(Arc::clone(tenant), id.to_owned()));
        let removed = removed.ok_or_else(|| unknown(id))?;
        if let Some(feeding) = &removed.feeding {
            feeding.stop();
        }
        removed.events.append(SideEvent::Deleted);
        Ok(removed)
    }

    /// Ends what goes on by itself, sources and readers' streams: the server stops.
    pub(crate) fn close(&self) {
        for context in self.lock().values() {
            if let Some(feeding) = &context.feeding {
                feeding.stop();
            }
            context.events.close();
        }
    }

    /// What all of them went through so far.
    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Turns the clocks whose next text is encoded and whose time has come: whose they are, and what that
    /// leaves behind.
    pub(crate) fn turn(&self, now: Duration) -> Vec<(Arc<str>, Turned)> {
        let mut contexts = self.lock();
        let turned = contexts.iter_mut().filter_map(|((tenant, _), context)| {
            context.turn(now).map(|turned| (Arc::clone(tenant), turned))
        });
        turned.collect()
    }

    /// When the next of them turns, since the Unix epoch.
    pub(crate) fn next_turn(&self) -> Option<Duration> {
        self.lock().values().filter_map(|context| Some(context.ahead.as_ref()?.at)).min()
    }

    /// Told when a newer version of one is encoded.
    pub(crate) fn renewed(&self) -> &Notify {
        &self.renewed
    }

    /// Tenants and ids of those that upkeep has something to do for, the longest unchanged first.
    pub fn due(&self, now: Duration) -> Vec<(Arc<str>, String)> {
        let contexts = self.lock();
        let mut due: Vec<_> = contexts.iter().filter(|(_, c)| c.awaits_upkeep(now)).collect();
        due.sort_by_key(|(_, context)| context.changed);
        due.into_iter().map(|(key, _)| key.clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Arc<str>, String), SideContext>> {
        // Every change leaves a context whole, so a panic elsewhere does not spoil it.
        self.contexts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 400: a source more than a tenant may have, besides `fed` others.
fn check_sources(fed: usize, feeding: Option<&Feeding>) -> Result<(), ApiError> {
    if feeding.is_none() || fed < SOURCES_MAX {
        return Ok(());
    }
    let message = format!("{fed} side contexts have a source; the limit is {SOURCES_MAX}");
    Err(ApiError::bad_request("source", message).with_code("too_many"))
}

fn unknown(id: &str) -> ApiError {
    ApiError::not_found(format!("no side context {id:?}")).with_code("side_context_not_found")
}

#[cfg(test)]
mod tests;

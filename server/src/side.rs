//! Side contexts: small contexts that the server keeps current (a clock, a feed, a log).
//!
//! Each is a few short fragments: a clock's time, a feed's entries. A change makes new fragments and
//! leaves all others as they are, so keeping it current costs its own few tokens. Owns what they hold
//! and when it changed; what that means to a model is in `upkeep.rs`, who may ask in
//! `api/side_contexts.rs`.

mod clock;
mod upkeep;

pub use clock::{Clock, ClockError};
pub(crate) use upkeep::pieces_tokens;
pub use upkeep::{refresh, upkeep};

use crate::{
    ApiError,
    limits::{SIDE_CONTEXTS_MAX, SIDE_ENTRIES_MAX},
};
use models::TokenId;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// What a side context is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// The time, written by a template.
    Clock(Clock),
    /// Entries; what rolls off is gone.
    Feed,
    /// A record; what rolls off leaves a line that says how much.
    Log,
}

impl Kind {
    /// The wire's word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Clock(_) => "clock",
            Self::Feed => "feed",
            Self::Log => "log",
        }
    }
}

/// When entries roll off: the oldest first, while any bound is passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roll {
    /// Tokens of all entries.
    pub tokens: Option<usize>,
    /// Entries.
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
    /// Pieces in order: the clock's time, or the entries.
    pub pieces: VecDeque<Piece>,
    /// Entries that rolled off so far.
    pub rolled_off: u64,
    /// What stands for them, in a log.
    pub stub: Option<Piece>,
    /// The root it was last placed after: what changes is encoded there ahead of the next call.
    pub root: Option<Arc<[TokenId]>>,
    /// The version that is encoded there.
    pub encoded: Option<u64>,
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
            next: 1,
        }
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
        let number = self.next;
        self.next += 1;
        self.pieces.push_back(Piece { number, at: now, text, tokens });
        self.change(now);
        number
    }

    /// Puts `text` in the place of all pieces, as a clock does.
    pub fn replace(&mut self, text: String, tokens: Arc<[TokenId]>, now: Duration) {
        self.pieces.clear();
        self.push(text, tokens, now);
    }

    /// Takes off the oldest entries while a bound is passed, and returns their numbers. The newest
    /// entry stays, unless it is too old.
    pub fn roll_off(&mut self, now: Duration) -> Vec<u64> {
        let Roll { tokens, entries, age } = self.roll;
        let mut gone = Vec::new();
        while let Some(oldest) = self.pieces.front() {
            let held: usize = self.pieces.iter().map(|piece| piece.tokens.len()).sum();
            let is_many = tokens.is_some_and(|most| held > most)
                || self.pieces.len() > entries.unwrap_or(SIDE_ENTRIES_MAX);
            let is_old = age.is_some_and(|most| now.saturating_sub(oldest.at) > most);
            let goes = is_old || is_many && self.pieces.len() > 1;
            if !goes {
                break;
            }
            gone.extend(self.pieces.pop_front().map(|piece| piece.number));
        }
        if !gone.is_empty() {
            self.rolled_off += gone.len() as u64;
            self.change(now);
        }
        gone
    }

    fn change(&mut self, now: Duration) {
        self.version += 1;
        self.changed = now;
    }
}

/// All side contexts of a server.
#[derive(Debug, Default)]
pub struct SideContexts {
    contexts: Mutex<BTreeMap<(Arc<str>, String), SideContext>>,
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
    pub fn add(&self, tenant: &Arc<str>, context: SideContext) -> Result<(), ApiError> {
        let mut contexts = self.lock();
        let held = contexts.keys().filter(|(owner, _)| owner == tenant).count();
        if held >= SIDE_CONTEXTS_MAX {
            let message =
                format!("{held} side contexts are there; the limit is {SIDE_CONTEXTS_MAX}");
            return Err(ApiError::bad_request("kind", message).with_code("too_many"));
        }
        contexts.insert((Arc::clone(tenant), context.id.clone()), context);
        Ok(())
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
        removed.ok_or_else(|| unknown(id))
    }

    /// Ids of all, each with its tenant.
    pub fn all(&self) -> Vec<(Arc<str>, String)> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Arc<str>, String), SideContext>> {
        // Every change leaves a context whole, so a panic elsewhere does not spoil it.
        self.contexts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(id: &str) -> ApiError {
    ApiError::not_found(format!("no side context {id:?}")).with_code("side_context_not_found")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn filled(roll: Roll) -> SideContext {
        let mut context = SideContext::new("sc_1".into(), Kind::Feed, seconds(0));
        context.roll = roll;
        for n in 1..=5 {
            context.push(format!("entry {n}"), vec![0; n as usize].into(), seconds(n));
        }
        context
    }

    #[test]
    fn the_oldest_entries_roll_off_while_a_bound_is_passed() {
        for (roll, gone) in [
            (Roll::default(), vec![]),
            (Roll { entries: Some(2), ..Roll::default() }, vec![1, 2, 3]),
            (Roll { tokens: Some(9), ..Roll::default() }, vec![1, 2, 3]),
            (Roll { tokens: Some(8), ..Roll::default() }, vec![1, 2, 3, 4]),
            (Roll { age: Some(seconds(3)), ..Roll::default() }, vec![1, 2]),
            // The newest stays, however large, unless it is too old.
            (Roll { tokens: Some(1), ..Roll::default() }, vec![1, 2, 3, 4]),
            (Roll { age: Some(seconds(0)), ..Roll::default() }, vec![1, 2, 3, 4, 5]),
        ] {
            let mut context = filled(roll);
            let version = context.version;
            assert_eq!(context.roll_off(seconds(6)), gone, "{roll:?}");
            assert_eq!(context.version > version, !gone.is_empty(), "a change is a version");
            assert_eq!(context.rolled_off, gone.len() as u64);
        }
    }

    #[test]
    fn tenants_have_their_own() {
        let contexts = SideContexts::new();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        contexts.add(&a, filled(Roll::default())).unwrap();
        assert!(contexts.get(&a, "sc_1").is_ok() && contexts.get(&b, "sc_1").is_err());
        assert!(contexts.list(&b).is_empty() && contexts.remove(&b, "sc_1").is_err());
        assert_eq!(contexts.remove(&a, "sc_1").unwrap().pieces.len(), 5);
    }
}

//! Two tiers as one: a near one, and a far one, slower, to which more may fit, or which others share.
//!
//! 1. A record is given to both. One of them *leads*: it alone says whether too much waits to be
//!    written, and what the other does not take then it does without. The near one leads before a
//!    store that others share. Before memory the far one does: what memory keeps ends with the process.
//! 2. Who was given a record *claims* it until it says otherwise. `Kept` is passed on when the first
//!    keeps it, `Gone` when nobody claims it any more.
//! 3. A fetch goes to the near one if it claims the record, else to the far one if it claims it or
//!    may have it unlisted. What the near one has lost is asked of the far one. So every fetch is
//!    answered once, by the last that was asked.
//! 4. What comes from afar is given to the near one, too, unless it was removed meanwhile.
//! 5. Removals and pins go to both.
//! 6. What is expected is fetched from afar as if it had been asked for; nobody is told, unless it is
//!    asked for before it arrives.
//!
//! Invariant: a claim is given up at the latest when the record is asked for and not there, so a
//! wrong one costs a question.

use super::{Entry, Figures, Kv, Notice, Tier};
use crate::FragmentId;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// A near tier over a far one.
pub struct Layered {
    near: Box<dyn Tier>,
    far: Box<dyn Tier>,
    leads: Side,
    /// The leader did not take a record, and has said nothing since.
    is_refused: bool,
    claims: BTreeMap<FragmentId, Claims>,
    fetching: BTreeMap<FragmentId, Fetch>,
    /// Answers that neither tier gives.
    answers: VecDeque<Notice>,
}

/// Who claims a record.
#[derive(Clone, Copy, Debug, Default)]
struct Claims {
    near: bool,
    far: bool,
    /// The loop knows that it is kept.
    is_told: bool,
}

/// A fetch that is not answered.
struct Fetch {
    entry: Entry,
    from: Side,
    /// The record is to be gone.
    is_removed: bool,
    /// The loop waits for it; otherwise it is expected only.
    is_asked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Near,
    Far,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }
}

impl Claims {
    fn of(&mut self, side: Side) -> &mut bool {
        match side {
            Side::Near => &mut self.near,
            Side::Far => &mut self.far,
        }
    }

    fn is_empty(self) -> bool {
        !self.near && !self.far
    }
}

impl Layered {
    /// This server's own tier before one that others share. Both are open, and their entries were not
    /// asked for yet.
    pub fn new(near: Box<dyn Tier>, far: Box<dyn Tier>) -> Self {
        Self::led_by(Side::Near, near, far)
    }

    /// Memory before a tier that outlives the process.
    pub fn of_memory(memory: Box<dyn Tier>, far: Box<dyn Tier>) -> Self {
        Self::led_by(Side::Far, memory, far)
    }

    fn led_by(leads: Side, near: Box<dyn Tier>, far: Box<dyn Tier>) -> Self {
        let (claims, fetching, answers) = (BTreeMap::new(), BTreeMap::new(), VecDeque::new());
        Self { near, far, leads, is_refused: false, claims, fetching, answers }
    }

    fn tier(&mut self, side: Side) -> &mut dyn Tier {
        match side {
            Side::Near => &mut *self.near,
            Side::Far => &mut *self.far,
        }
    }

    /// Enters what a tier has when it is opened.
    fn claim_all(&mut self, side: Side) -> Vec<Entry> {
        let entries = self.tier(side).entries();
        for entry in &entries {
            let claims = self.claims.entry(entry.id).or_default();
            *claims.of(side) = true;
            claims.is_told = true;
        }
        entries
    }

    fn claims_of(&self, id: FragmentId) -> Claims {
        self.claims.get(&id).copied().unwrap_or_default()
    }

    /// Gives up a claim. `true`: nobody has another.
    fn disclaim(&mut self, side: Side, id: FragmentId) -> bool {
        let Some(claims) = self.claims.get_mut(&id) else { return false };
        *claims.of(side) = false;
        let is_gone = claims.is_empty();
        if is_gone {
            self.claims.remove(&id);
        }
        is_gone
    }

    /// The far tier has a record, or may have it.
    fn is_far_worth_asking(&self, entry: &Entry) -> bool {
        let may_be = |min| entry.tokens.len() >= min && entry.sealed.is_none();
        self.claims_of(entry.id).far || self.far.unlisted_rows_min().is_some_and(may_be)
    }

    /// Asks the far tier, or says at once that a record is lost.
    fn fetch_far(&mut self, entry: Entry) {
        if !self.is_far_worth_asking(&entry) {
            return self.answers.push_back(Notice::Lost(entry.id));
        }
        self.fetch_from(Side::Far, entry, true);
    }

    fn fetch_from(&mut self, from: Side, entry: Entry, is_asked: bool) {
        let fetch = Fetch { entry: entry.clone(), from, is_removed: false, is_asked };
        self.fetching.insert(entry.id, fetch);
        self.tier(from).fetch(entry);
    }

    /// What the loop is told of what one of the tiers says: something, if it waits for the leader.
    fn hear(&mut self, side: Side, notice: Notice) -> Option<Notice> {
        let told = self.pass_on(side, notice);
        if side == self.leads && std::mem::take(&mut self.is_refused) {
            return told.or(Some(Notice::Room));
        }
        told
    }

    /// What is news to the loop.
    fn pass_on(&mut self, side: Side, notice: Notice) -> Option<Notice> {
        match notice {
            Notice::Kept(id) => {
                let claims = self.claims.get_mut(&id)?;
                // A late word about an earlier copy may have cost the claim.
                *claims.of(side) = true;
                let is_news = !std::mem::replace(&mut claims.is_told, true);
                is_news.then_some(notice)
            }
            Notice::Gone(id) => self.disclaim(side, id).then_some(notice),
            Notice::Arrived { id, ref kv, .. } => {
                let fetch = self.answered(side, id)?;
                let is_asked = fetch.is_asked;
                if !fetch.is_removed {
                    self.arrived(fetch, kv);
                }
                is_asked.then_some(notice)
            }
            Notice::Lost(id) => {
                let fetch = self.answered(side, id)?;
                let is_gone = self.disclaim(side, id);
                if !fetch.is_asked {
                    return is_gone.then_some(Notice::Gone(id));
                }
                if side == Side::Far || fetch.is_removed {
                    return Some(notice);
                }
                self.fetch_far(fetch.entry);
                None
            }
            // Told to whoever waits for it.
            Notice::Room => None,
        }
    }

    /// The fetch that a tier has answered.
    fn answered(&mut self, side: Side, id: FragmentId) -> Option<Fetch> {
        if self.fetching.get(&id)?.from != side {
            return None;
        }
        self.fetching.remove(&id)
    }

    /// A record is there; what came from afar is to be near next time.
    fn arrived(&mut self, Fetch { entry, from, .. }: Fetch, kv: &Kv) {
        // Of what was offered after it was expected there is still a word to come; of what was not
        // offered the loop waits for none.
        let is_told = !self.claims.contains_key(&entry.id);
        let claims = self.claims.entry(entry.id).or_default();
        *claims.of(from) = true;
        claims.is_told |= is_told;
        if !claims.near {
            claims.near = self.near.keep(entry, kv.clone());
        }
    }
}

impl Tier for Layered {
    fn entries(&mut self) -> Vec<Entry> {
        let mut far = self.claim_all(Side::Far);
        let near = self.claim_all(Side::Near);
        let is_near: BTreeSet<FragmentId> = near.iter().map(|entry| entry.id).collect();
        far.retain(|entry| !is_near.contains(&entry.id));
        far.extend(near);
        far
    }

    fn unlisted_rows_min(&self) -> Option<usize> {
        [self.near.unlisted_rows_min(), self.far.unlisted_rows_min()].into_iter().flatten().min()
    }

    fn keep(&mut self, entry: Entry, kv: Kv) -> bool {
        let (leads, id) = (self.leads, entry.id);
        if !self.tier(leads).keep(entry.clone(), kv.clone()) {
            self.is_refused = true;
            return false;
        }
        let is_taken = self.tier(leads.other()).keep(entry, kv);
        let claims = self.claims.entry(id).or_default();
        *claims.of(leads) = true;
        *claims.of(leads.other()) |= is_taken;
        if claims.is_told {
            // Whoever had it already may have no more to say.
            self.answers.push_back(Notice::Kept(id));
        }
        true
    }

    fn fetch(&mut self, entry: Entry) {
        if let Some(expected) = self.fetching.get_mut(&entry.id) {
            expected.is_asked = true;
        } else if self.claims_of(entry.id).near {
            self.fetch_from(Side::Near, entry, true);
        } else {
            self.fetch_far(entry);
        }
    }

    fn expect(&mut self, entry: Entry) {
        if self.claims_of(entry.id).near {
            self.near.expect(entry);
        } else if self.is_far_worth_asking(&entry) && !self.fetching.contains_key(&entry.id) {
            self.fetch_from(Side::Far, entry, false);
        }
    }

    fn remove(&mut self, id: FragmentId, rows: usize) {
        self.claims.remove(&id);
        if let Some(fetch) = self.fetching.get_mut(&id) {
            fetch.is_removed = true;
        }
        self.near.remove(id, rows);
        self.far.remove(id, rows);
    }

    fn pin(&mut self, id: FragmentId, pinned: bool) {
        if let Some(fetch) = self.fetching.get_mut(&id) {
            fetch.entry.pinned = pinned;
        }
        self.near.pin(id, pinned);
        self.far.pin(id, pinned);
    }

    fn poll(&mut self) -> Option<Notice> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Some(answer);
            }
            let near = self.near.poll().map(|notice| (Side::Near, notice));
            let (side, notice) =
                near.or_else(|| self.far.poll().map(|notice| (Side::Far, notice)))?;
            if let Some(notice) = self.hear(side, notice) {
                return Some(notice);
            }
        }
    }

    fn wait(&mut self, timeout: Duration) -> Option<Notice> {
        let (mut left, mut side) = (timeout, Side::Near);
        loop {
            if let Some(notice) = self.poll() {
                return Some(notice);
            }
            if left.is_zero() {
                return None;
            }
            // Either may speak first: each is listened to in turn.
            let turn = left.min(TURN);
            left -= turn;
            let heard = self.tier(side).wait(turn);
            if let Some(notice) = heard.and_then(|notice| self.hear(side, notice)) {
                return Some(notice);
            }
            side = side.other();
        }
    }

    fn figures(&self) -> Figures {
        self.near.figures() + self.far.figures()
    }

    fn figures_shared(&self) -> Figures {
        self.near.figures_shared() + self.far.figures_shared()
    }

    fn figures_host(&self) -> Figures {
        self.near.figures_host() + self.far.figures_host()
    }

    fn close(&mut self) {
        self.near.close();
        self.far.close();
    }
}

/// How long one tier is listened to before the other: a fetch is late by no more.
const TURN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;

//! Arms: how a change of the side context reaches an answer, or does not.

use super::{
    drive::{Due, Run},
    told::{SoFar, Told},
};
use crate::{
    arm::{Joined, KV},
    measure::ALTERNATIVES,
};
use engine::JoinPolicy;
use models::TokenId;
use std::{fmt, sync::Arc};

/// Tokens that a model may take for a value.
const VALUE_TOKENS_MAX: usize = 12;

/// One arm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arm {
    pub(crate) way: Way,
    pub(crate) place: Place,
    /// A line in the answer tells of each change.
    pub(crate) rings: bool,
}

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    /// As `Recompute`, with nothing said before: whether the model can read the side context at
    /// all. Right lines about older versions look wrong beside the newest.
    Alone,
    /// The answer so far is put behind the newest version, and all is computed as one text: the
    /// oracle.
    Recompute,
    /// The answer so far is computed again behind the newest version, under this policy: how far
    /// the join moves it, without a swap.
    Again(JoinPolicy),
    /// The newest version takes the place of the one before. What was said so far stays as it was
    /// computed: over the versions before.
    Swap(JoinPolicy),
    /// Nothing: the first version stays.
    Stale(JoinPolicy),
}

/// Where the side context stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Behind the other fragments.
    Last,
    /// In front of them.
    First,
}

/// What is asked of the model where a value is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// How likely it is.
    Score,
    /// To say it.
    Say,
}

impl Arm {
    /// Every arm.
    pub(crate) fn all(policies: &[JoinPolicy]) -> Vec<Self> {
        let mut arms = Vec::new();
        for place in [Place::Last, Place::First] {
            let arm = |way, rings| Self { way, place, rings };
            arms.push(arm(Way::Alone, false));
            arms.extend([false, true].map(|rings| arm(Way::Recompute, rings)));
            for &policy in policies {
                arms.extend([
                    arm(Way::Again(policy), false),
                    arm(Way::Swap(policy), false),
                    arm(Way::Swap(policy), true),
                    arm(Way::Stale(policy), false),
                ]);
            }
        }
        arms
    }

    /// The arm that shows what plain concatenation says of the same text.
    pub(crate) fn oracle(self) -> Self {
        Self { way: Way::Recompute, ..self }
    }

    /// The generation that comes to a version's value.
    pub(crate) fn run(self, told: &Told, version: usize, asked: Asked) -> Run {
        let so_far = self.so_far(told, version);
        let (mut tail, mut forced) = (told.tail.clone(), Vec::new());
        if self.goes_on() { &mut forced } else { &mut tail }.extend(&so_far.tokens);
        let length = match asked {
            Asked::Score => told.value(version).len(),
            Asked::Say => VALUE_TOKENS_MAX,
        };
        let max_tokens = forced.len() + length;
        let logprobs = (asked == Asked::Score).then_some(ALTERNATIVES);
        if asked == Asked::Score {
            forced.extend(told.value(version));
        }
        let swaps = match self.way {
            Way::Swap(_) => self.swaps(told, &so_far.changes),
            _ => Vec::new(),
        };
        let first = if self.goes_on() { 0 } else { version };
        Run { joined: self.joined(told, first), tail, forced, max_tokens, logprobs, swaps }
    }

    /// Tokens of the answer in front of a version's value, where they are part of the answer.
    pub(crate) fn forced(self, told: &Told, version: usize) -> usize {
        if self.goes_on() { told.so_far(version, self.rings).tokens.len() } else { 0 }
    }

    /// Tokens that are computed because of the change to a version: those of new pieces, of the
    /// doorbell, and of what is computed again.
    pub(crate) fn tokens_of_change(self, told: &Told, version: usize) -> usize {
        let sum = |fragments: &[Arc<[TokenId]>]| fragments.iter().map(|f| f.len()).sum::<usize>();
        let new: usize = told.new_pieces(version).map(|piece| piece.len()).sum();
        let bell = if self.rings { told.doorbell.len() } else { 0 };
        let said = self.so_far(told, version).changes.last().copied().unwrap_or(0);
        let again = told.tail.len() + said;
        match (self.way, self.place) {
            (Way::Stale(_), _) => 0,
            (Way::Swap(_), _) => new + bell,
            (Way::Again(_), _) | (_, Place::Last) => new + bell + again,
            (Way::Alone | Way::Recompute, Place::First) => new + bell + again + sum(&told.fillers),
        }
    }

    fn so_far(self, told: &Told, version: usize) -> SoFar {
        let so_far = told.so_far(version, self.rings);
        if self.way == Way::Alone { so_far.alone() } else { so_far }
    }

    /// The generation was there before the change.
    fn goes_on(self) -> bool {
        matches!(self.way, Way::Swap(_) | Way::Stale(_))
    }

    fn joined(self, told: &Told, version: usize) -> Joined {
        let policy = match self.way {
            Way::Alone | Way::Recompute => JoinPolicy::Recompute,
            Way::Again(policy) | Way::Swap(policy) | Way::Stale(policy) => policy,
        };
        let mut placements = told.fillers.clone();
        let start = self.start(told);
        placements.splice(start..start, told.versions[version].iter().cloned());
        Joined { kv: KV, policy, root: Arc::clone(&told.root), placements }
    }

    /// Placements in front of the side context.
    fn start(self, told: &Told) -> usize {
        if self.place == Place::Last { told.fillers.len() } else { 0 }
    }

    fn swaps(self, told: &Told, changes: &[usize]) -> Vec<Due> {
        let start = self.start(told);
        let due = |(&at, versions): (&usize, &[Vec<Arc<[TokenId]>>])| Due {
            at,
            range: start..start + versions[0].len(),
            with: versions[1].clone(),
        };
        changes.iter().zip(told.versions.windows(2)).map(due).collect()
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.way {
            Way::Alone => f.write_str("recompute alone")?,
            Way::Recompute => f.write_str("recompute")?,
            Way::Again(policy) => write!(f, "{policy} again")?,
            Way::Swap(policy) => write!(f, "{policy} swap")?,
            Way::Stale(policy) => write!(f, "{policy} stale")?,
        }
        f.write_str(if self.place == Place::Last { ", last" } else { ", first" })?;
        f.write_str(if self.rings { ", doorbell" } else { "" })
    }
}

//! Records that were asked for a short while ago and were not there: not asked for again at once.

use crate::FragmentId;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// A bounded set that forgets. Moments are those of one clock, and never go back.
#[derive(Debug, Default)]
pub(crate) struct Misses {
    until: BTreeMap<FragmentId, Duration>,
    /// The oldest first; what was noted again or forgotten stands there still.
    order: VecDeque<(FragmentId, Duration)>,
}

impl Misses {
    pub(crate) fn has(&self, id: FragmentId, now: Duration) -> bool {
        self.until.get(&id).is_some_and(|&until| now < until)
    }

    /// A record is not there.
    pub(crate) fn note(&mut self, id: FragmentId, now: Duration) {
        let until = now + MISS_TIME;
        self.until.insert(id, until);
        self.order.push_back((id, until));
        let is_stale = |order: &VecDeque<(_, Duration)>| order.front().is_some_and(|o| o.1 <= now);
        while self.order.len() > MISSES_MAX || is_stale(&self.order) {
            let Some((id, noted)) = self.order.pop_front() else { return };
            if self.until.get(&id) == Some(&noted) {
                self.until.remove(&id);
            }
        }
    }

    /// It may be there now.
    pub(crate) fn forget(&mut self, id: FragmentId) {
        self.until.remove(&id);
    }
}

/// Another server may write a record at any moment: so long it is encoded here without a question.
const MISS_TIME: Duration = Duration::from_secs(30);
/// More than a server is asked for in that time.
pub(crate) const MISSES_MAX: usize = 4096;

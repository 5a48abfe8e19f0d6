//! Moments to date files by: the order of uses, kept in files' times of modification.
//!
//! Near the file system's time, so that people can read them, but each later than every one
//! before, whatever clocks do.

use crate::Clock;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Gives moments in order.
pub(crate) struct Calendar {
    clock: Arc<dyn Clock>,
    /// The clock read so when the file system's stood at `opened_at`.
    opened: Duration,
    opened_at: SystemTime,
    last: SystemTime,
}

impl Calendar {
    /// The file system's clock stands at `opened_at`.
    pub(crate) fn new(clock: Arc<dyn Clock>, opened_at: SystemTime) -> Self {
        Self { opened: clock.now(), clock, opened_at, last: opened_at }
    }

    /// What comes next is later than `moment`.
    pub(crate) fn follow(&mut self, moment: SystemTime) {
        self.last = self.last.max(moment);
    }

    /// The present moment, later than all before.
    pub(crate) fn next(&mut self) -> SystemTime {
        let present = self.opened_at + self.clock.now().saturating_sub(self.opened);
        // At the end of time the order is lost, and nothing else.
        self.last = self.last.checked_add(TICK).unwrap_or(self.last).max(present);
        self.last
    }
}

/// Most file systems tell moments apart that are so close.
const TICK: Duration = Duration::from_micros(1);

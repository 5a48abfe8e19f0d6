//! When a store that failed is asked again: after a pause that doubles with every failure.

use std::time::Duration;

/// Whether requests of one kind are worth making. Moments are those of one clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outage {
    until: Duration,
    pause: Duration,
}

impl Outage {
    /// Nothing is to be asked now.
    pub(crate) fn is_on(&self, now: Duration) -> bool {
        now < self.until
    }

    /// A request failed.
    pub(crate) fn failed(&mut self, now: Duration) {
        // Of requests that were under way together, one counts.
        if !self.is_on(now) {
            self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
            self.until = now + self.pause;
        }
    }

    /// A request succeeded. `true`: the one before had not.
    pub(crate) fn is_over(&mut self) -> bool {
        let was_on = !self.pause.is_zero();
        *self = Self::default();
        was_on
    }
}

const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_mins(1);

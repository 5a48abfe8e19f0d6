//! Time for the server: the engine's monotonic clock, and the date it started at.

use engine::Clock;
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The machine's monotonic clock, counted from when it was made.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock that reads zero now.
    #[expect(clippy::disallowed_methods, reason = "this is the Clock that others take")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A monotonic clock tied to the calendar.
#[derive(Clone)]
pub struct Time {
    clock: Arc<dyn Clock>,
    unix_at_zero: Duration,
}

impl Time {
    /// `clock` read zero at `unix_at_zero` after the Unix epoch.
    pub fn new(clock: Arc<dyn Clock>, unix_at_zero: Duration) -> Self {
        Self { clock, unix_at_zero }
    }

    /// The machine's time.
    #[expect(clippy::disallowed_methods, reason = "read once at start-up; the Clock counts on")]
    pub fn system() -> Self {
        let unix_at_zero = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::new(Arc::new(SystemClock::start()), unix_at_zero)
    }

    /// The clock, for the engine.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Monotonic time.
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Time since the Unix epoch.
    pub fn unix(&self) -> Duration {
        self.unix_at_zero + self.clock.now()
    }

    /// Whole seconds since the Unix epoch.
    pub fn unix_seconds(&self) -> u64 {
        self.unix().as_secs()
    }
}

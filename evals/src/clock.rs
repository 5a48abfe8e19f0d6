//! The machine's clock: evals time first tokens and say how long a run will take.

use engine::Clock;
use std::time::{Duration, Instant};

/// Time since it was made.
pub(crate) struct Monotonic(Instant);

impl Monotonic {
    #[expect(clippy::disallowed_methods, reason = "this is the Clock that others take")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

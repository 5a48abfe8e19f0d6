//! How far a run is, told item by item, and how long the rest will take.

use crate::clock::Monotonic;
use engine::Clock as _;
use std::time::Duration;

/// A run under way.
pub(crate) struct Progress {
    clock: Monotonic,
    /// Items that were done before.
    before: usize,
    items: usize,
}

impl Progress {
    /// Of a run of so many items, some done before.
    pub(crate) fn start(before: usize, items: usize) -> Self {
        if before > 0 {
            eprintln!("going on behind {before} of {items} items");
        }
        Self { clock: Monotonic::start(), before, items }
    }

    /// Tells of one more item, and the time left if the others take as long.
    pub(crate) fn tell(&self, done: usize, of_item: &str) {
        let took = self.clock.now() / (done - self.before) as u32;
        let left = minutes(took * (self.items - done) as u32);
        eprintln!("[{done}/{}] {of_item} · {left} left", self.items);
    }
}

fn minutes(left: Duration) -> String {
    let seconds = left.as_secs();
    if seconds >= 60 {
        format!("{} min {} s", seconds / 60, seconds % 60)
    } else {
        format!("{seconds} s")
    }
}

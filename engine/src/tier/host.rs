//! The host tier: records in this machine's memory, behind a device's.
//!
//! Here the loop's side: what it asks goes into a queue (`queue.rs`), which a thread (`worker.rs`)
//! empties into the store (`host/store.rs`). Nothing is copied, but everything is hashed: 64 MiB, 512
//! tokens of an 8B model, take 9 ms with AVX-512 and more without, and the loop has steps to run.
//!
//! Records are pageable memory. What goes to a device and comes from it passes a small pinned buffer
//! (`kernels/src/cuda/kv_pool.rs`): to pin the whole tier would take that memory from the system.

mod store;

use super::worker::Worker;
use crate::Clock;
use std::{io, sync::Arc};
use store::Store;

/// A tier in memory. What it keeps is gone when the process ends.
pub type Host = Worker<Store>;

impl Host {
    /// An empty tier whose records may take so many bytes. What waits to be hashed is not counted.
    ///
    /// # Errors
    /// The machine has no thread to give.
    pub fn open(bytes_max: u64, clock: Arc<dyn Clock>) -> io::Result<Self> {
        Self::start("host", Store::new(bytes_max), clock)
    }

    /// The same without a thread: work is done when notices are asked for. For simulators, in which
    /// nothing may depend on threads.
    pub fn stepwise(bytes_max: u64, clock: Arc<dyn Clock>) -> Self {
        Self::without_thread("host", Store::new(bytes_max), clock)
    }
}

#[cfg(test)]
mod tests;

//! The disk tier: records as files in a folder, written and read on a thread of its own.
//!
//! Here the loop's side: what it asks goes into a queue (`queue.rs`), which the thread (`worker.rs`)
//! empties into the store (`disk/store.rs`). Whatever fails on the disk or on the thread, the loop hears
//! `Gone` or `Lost` and goes on without.

mod calendar;
mod files;
mod index;
mod spares;
mod store;

use super::{
    origin::{self, Origin},
    worker::Worker,
};
use crate::Clock;
use files::{Files, System};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use store::Store;

/// Where records are kept, and what records they are.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// Models share it: each has a folder of its own below.
    pub dir: PathBuf,
    /// Bytes that this model's records may take.
    pub bytes_max: u64,
    /// Where their KV comes from.
    pub origin: Origin,
}

impl DiskConfig {
    /// This model's folder. Who has opened the tier has it alone, and may keep files of its own there.
    /// Of their names, those that contain `.tmp-` are deleted when the tier is opened, and those that
    /// end in `.bad` when there are many.
    pub fn folder(&self) -> PathBuf {
        self.dir.join(self.origin.folder())
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Two servers would delete each other's files.
    #[error("the folder {} is in use by another server", _0.display())]
    InUse(PathBuf),
    /// The folder could not be used.
    #[error("cannot {what} the folder {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// A tier on disk. Dropping it is closing it.
pub type Disk = Worker<Store>;

impl Disk {
    /// Refuses a folder that [`Disk::open`] would refuse for the model with this fingerprint: to be asked
    /// before it is loaded. Blocking.
    ///
    /// # Errors
    /// As [`Disk::open`].
    pub fn check(dir: &Path, fingerprint: &[u8; 32]) -> Result<(), DiskError> {
        store::take(dir, &dir.join(origin::folder(fingerprint)), &System).map(drop)
    }

    /// Opens the model's folder, made when it is missing, and reads what is there. Blocking.
    ///
    /// # Errors
    /// Another server has the folder, or it cannot be written to. Files that are not what they
    /// should be are set aside, and no error.
    pub fn open(config: DiskConfig, clock: Arc<dyn Clock>) -> Result<Self, DiskError> {
        Self::open_over(config, clock, Box::new(System))
    }

    fn open_over(
        config: DiskConfig,
        clock: Arc<dyn Clock>,
        files: Box<dyn Files>,
    ) -> Result<Self, DiskError> {
        let dir = config.dir.clone();
        let store = Store::open(config, clock.clone(), files)?;
        let cannot = |source| DiskError::Io { what: "start a thread for", path: dir, source };
        Self::start("disk", store, clock).map_err(cannot)
    }
}

#[cfg(test)]
mod tests;

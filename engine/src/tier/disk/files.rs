//! What the disk tier asks of a file system, and nothing more: tests put one in its place that
//! fails at any chosen operation.
//!
//! Nothing else in the tier calls `std::fs`.

use super::spares::Spares;
use crate::tier::record::Source;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::Path,
    time::SystemTime,
};

/// Operations on files. Each is done or has failed when it returns; a failed `write` may leave a
/// part of the file.
pub(crate) trait Files: Send {
    /// Makes a folder and those above it, where they are missing; for its owner alone to read.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;

    /// Takes the lock file for this process alone. `None`: someone else has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>>;

    /// The plain files in a folder, in no order.
    fn list(&self, folder: &Path) -> io::Result<Vec<Found>>;

    /// Opens a file to read from its start on, and tells its size.
    fn open(&self, path: &Path) -> io::Result<(File, u64)>;

    /// Lets the system read a file ahead, where it can; nothing is waited for.
    fn read_ahead(&self, path: &Path) -> io::Result<()>;

    /// Exactly so many bytes from where the last read ended, in this memory.
    fn read(&self, file: &mut File, bytes: usize, memory: Vec<u8>) -> io::Result<Vec<u8>>;

    /// Writes a file that is not there yet, parts in order, and waits until it is durable.
    fn write(&self, path: &Path, parts: &[&[u8]], modified: SystemTime) -> io::Result<()>;

    /// Renames, in place of a file that has the name already.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Sets when a file was last modified.
    fn touch(&self, path: &Path, modified: SystemTime) -> io::Result<()>;

    /// Waits until the names in a folder are durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// Held as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    /// The system gives the lock back when the file is closed, even by a crash.
    _file: File,
    /// When it was taken, by the file system's clock.
    pub(crate) taken_at: SystemTime,
}

/// A file in a listing.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) modified: SystemTime,
}

/// A file that is being read.
pub(crate) struct Opened<'a> {
    files: &'a dyn Files,
    file: File,
    pub(crate) bytes: u64,
    /// Memory for what is large.
    spares: &'a mut Spares,
}

impl<'a> Opened<'a> {
    pub(crate) fn new(
        files: &'a dyn Files,
        path: &Path,
        spares: &'a mut Spares,
    ) -> io::Result<Self> {
        let (file, bytes) = files.open(path)?;
        Ok(Self { files, file, bytes, spares })
    }
}

impl Source for Opened<'_> {
    fn read(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let memory = if bytes < LARGE { Vec::new() } else { self.spares.take(bytes) };
        self.files.read(&mut self.file, bytes, memory)
    }
}

/// Bytes that are worth memory of earlier reads.
const LARGE: usize = 1 << 16;

/// The machine's file system.
pub(crate) struct System;

impl Files for System {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(folder)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // For whoever looks for the holder; and writing dates the file.
        writeln!(file, "{:>10}", std::process::id())?;
        let taken_at = file.metadata()?.modified()?;
        Ok(Some(Lock { _file: file, taken_at }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            // Names that are not text are none of ours.
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                found.push(Found { name, bytes: metadata.len(), modified: metadata.modified()? });
            }
        }
        Ok(found)
    }

    fn open(&self, path: &Path) -> io::Result<(File, u64)> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok((file, bytes))
    }

    fn read_ahead(&self, path: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        #[cfg(target_os = "linux")]
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::WillNeed)?;
        drop(file);
        Ok(())
    }

    fn read(&self, file: &mut File, bytes: usize, memory: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut data = memory;
        data.clear();
        data.try_reserve_exact(bytes)?;
        file.take(bytes as u64).read_to_end(&mut data)?;
        if data.len() < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(data)
    }

    fn write(&self, path: &Path, parts: &[&[u8]], modified: SystemTime) -> io::Result<()> {
        let mut file = File::create_new(path)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.set_modified(modified)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn touch(&self, path: &Path, modified: SystemTime) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.set_modified(modified)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        // Elsewhere a folder cannot be opened as a file, and names need no syncing.
        if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
    }
}

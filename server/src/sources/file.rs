//! A file that is followed: each whole line that comes is an entry.
//!
//! The file may grow, be cut short and begun anew, or be moved away and replaced, as logs are; what
//! still stands in a file that was moved away is read to its end first. A file that is not there is
//! waited for. Its path is resolved, and must lie below an allowed folder, each time it is opened.

use super::{Folders, SourceError, text};
use crate::limits::{SIDE_ENTRY_BYTES_MAX, SOURCE_FILE_BYTES_MAX};
use std::{
    fs::{File, Metadata},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where in a file to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With what is in it already.
    Start,
    /// With what comes.
    End,
}

/// A file that is followed.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    folders: Arc<Folders>,
    open: Option<Open>,
    /// Where to begin in a file that is found by the next reading.
    from: Begin,
    line: Line,
}

/// A file and how much of it was read.
#[derive(Debug)]
struct Open {
    file: File,
    read: u64,
}

/// A line whose end has not come.
#[derive(Debug, Default)]
struct Line {
    /// As much of it as an entry can hold.
    bytes: Vec<u8>,
    /// Its bytes so far.
    total: u64,
    /// Its beginning was before what is read: it is no whole line.
    is_rest: bool,
}

impl Tail {
    /// Begins at `from`.
    pub(crate) fn new(path: PathBuf, from: Begin, folders: Arc<Folders>) -> Self {
        Self { path, folders, open: None, from, line: Line::default() }
    }

    /// The lines that came since. Blocking; reads [`SOURCE_FILE_BYTES_MAX`] at most, and the rest the
    /// next time.
    ///
    /// # Errors
    /// The file cannot be read, or may not be.
    pub(crate) fn poll(&mut self) -> Result<Vec<String>, SourceError> {
        let unreadable = |error: io::Error| SourceError::File(self.path.clone(), error.to_string());
        let there = match std::fs::metadata(&self.path) {
            Ok(there) => Some(there),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unreadable(error)),
        };
        let mut lines = Vec::new();
        if let Some(open) = &mut self.open {
            let held = open.file.metadata().map_err(unreadable)?;
            if held.len() < open.read {
                // Cut short: it is written anew from its start.
                open.read = 0;
                self.line = Line::default();
            }
            let bytes = open.read_some().map_err(unreadable)?;
            self.line.take(&bytes, &mut lines);
            let is_at_end = bytes.is_empty();
            if is_at_end && there.as_ref().is_none_or(|there| !is_same(there, &held)) {
                // Moved away or deleted: what was not ended there is all there will be of it.
                self.line.end(&mut lines);
                self.open = None;
            }
        }
        if self.open.is_none() && there.is_some() {
            self.begin(&mut lines)?;
        }
        // What comes to be from now on is new from its start.
        self.from = Begin::Start;
        Ok(lines)
    }

    /// Opens the file that is there, and reads it from where it is to begin.
    fn begin(&mut self, lines: &mut Vec<String>) -> Result<(), SourceError> {
        let unreadable = |error: io::Error| SourceError::File(self.path.clone(), error.to_string());
        let file = match self.folders.open(&self.path) {
            Err(SourceError::File(_, _)) if !self.path.exists() => return Ok(()),
            opened => opened?,
        };
        let mut open = Open { file, read: 0 };
        if self.from == Begin::End {
            let length = open.file.metadata().map_err(unreadable)?.len();
            self.line.is_rest = open.is_within_a_line(length).map_err(unreadable)?;
            open.read = length;
        }
        let bytes = open.read_some().map_err(unreadable)?;
        self.line.take(&bytes, lines);
        self.open = Some(open);
        Ok(())
    }
}

impl Open {
    /// What comes next, up to the bound.
    fn read_some(&mut self) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        (&self.file).take(SOURCE_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        self.read += bytes.len() as u64;
        Ok(bytes)
    }

    /// The first `length` bytes do not end with a line.
    fn is_within_a_line(&mut self, length: u64) -> io::Result<bool> {
        let Some(last) = length.checked_sub(1) else { return Ok(false) };
        self.file.seek(SeekFrom::Start(last))?;
        let mut byte = [0];
        // Cut short meanwhile: the next reading begins anew.
        let read = self.file.read(&mut byte)?;
        Ok(read == 1 && byte != *b"\n")
    }
}

impl Line {
    /// Takes what was read; lines that end in it are entries.
    fn take(&mut self, bytes: &[u8], lines: &mut Vec<String>) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let room = SIDE_ENTRY_BYTES_MAX - self.bytes.len();
            self.bytes.extend_from_slice(&part[..part.len().min(room)]);
            self.total += part.len() as u64;
            if part.ends_with(b"\n") {
                self.end(lines);
            }
        }
    }

    /// The line ends here. Blank lines are no entries.
    fn end(&mut self, lines: &mut Vec<String>) {
        let Self { bytes, total, is_rest } = std::mem::take(self);
        if !is_rest {
            lines.extend(text::entry(&bytes, total));
        }
    }
}

#[cfg(unix)]
pub(super) fn is_same(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// As near as it gets: a file that was replaced was made later.
#[cfg(not(unix))]
pub(super) fn is_same(a: &Metadata, b: &Metadata) -> bool {
    a.created().ok() == b.created().ok()
}

/// Whether a path names a regular file; pipes and devices may never end.
pub(super) fn is_regular(path: &Path) -> io::Result<bool> {
    std::fs::metadata(path).map(|there| there.is_file())
}

#[cfg(test)]
mod tests;

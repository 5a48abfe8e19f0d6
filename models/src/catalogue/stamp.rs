//! The stamp of a cached file: its checksum, and what the file looked like when that was taken.
//!
//! Reading a gigabyte at every start is slow, so a file whose size and time of change still are
//! the stamp's is taken to be the file that was checked.

use super::{error::CatalogueError, progress::Progress};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// What a file's checksum was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Trust {
    /// The catalogue's.
    Catalogue,
    /// What the hub states for the file.
    Hub,
    /// Nothing: taken when the file was first seen.
    FirstUse,
}

/// A checked file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// The file.
    pub(super) path: PathBuf,
    /// Its size.
    pub(super) bytes: u64,
    /// Its time of change, in nanoseconds since 1970.
    modified_ns: u64,
    /// Its checksum in hex.
    pub(super) sha256: String,
    /// What the checksum was compared with.
    pub(super) trust: Trust,
}

impl Stamp {
    /// A stamp for the file as it is.
    pub(super) fn of(path: &Path, sha256: String, trust: Trust) -> io::Result<Self> {
        let (bytes, modified_ns) = looks(path)?;
        Ok(Self { path: path.to_owned(), bytes, modified_ns, sha256, trust })
    }

    /// The stamp at `stamp_path`, if there is a readable one.
    pub(super) fn read(stamp_path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(stamp_path).ok()?).ok()
    }

    /// The file still looks as it did when it was checked.
    pub(super) fn holds(&self, path: &Path) -> bool {
        self.path == path && looks(path).is_ok_and(|now| now == (self.bytes, self.modified_ns))
    }

    /// Writes it aside and renames it.
    pub(super) fn write(&self, stamp_path: &Path) -> io::Result<()> {
        write_whole(stamp_path, &serde_json::to_vec_pretty(self)?)
    }
}

/// Writes a small file so that it is either the old one or the new one, never half of it.
///
/// # Errors
/// When it cannot be written or renamed.
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    fs::write(&aside, content)?;
    fs::rename(&aside, path)
}

/// The sha256 of a file in hex, read whole.
pub(super) fn hash_file(
    path: &Path,
    progress: &mut dyn Progress,
) -> Result<String, CatalogueError> {
    let unreadable = |cause| CatalogueError::Read { path: path.to_owned(), cause };
    let mut file = File::open(path).map_err(unreadable)?;
    let total = file.metadata().map_err(unreadable)?.len();
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let read = file.read(&mut buffer).map_err(unreadable)?;
        if read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
        done += read as u64;
        progress.bytes(done, Some(total));
    }
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

/// 64 hex digits: what a file of the hub's large-file storage is named by.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn looks(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok((metadata.len(), modified.as_nanos() as u64))
}

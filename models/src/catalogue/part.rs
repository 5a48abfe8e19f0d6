//! A file being fetched: `NAME.part` beside its final name, and a state file that tells how far
//! it got and from where.
//!
//! ```text
//!   NAME.part        bytes so far; those past the state's count are not trusted
//!   NAME.part.json   {from, pieces, bytes}: written after each piece is on disk
//!   NAME             appears by renaming, when the checksum is right
//! ```

use super::{
    error::{CatalogueError, Failure},
    stamp,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// How bytes reach the disk. Tests put a full disk here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    /// The writer for a part file opened at its end.
    pub(super) writer: fn(File) -> Box<dyn Write>,
}

impl Disk {
    /// The real one.
    pub(super) const REAL: Self = Self { writer: |file| Box::new(file) };
}

/// A file being fetched.
pub(super) struct Part {
    target: PathBuf,
    path: PathBuf,
    state_path: PathBuf,
    state: State,
    file: File,
    writer: Box<dyn Write>,
    hasher: Sha256,
    bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    from: String,
    pieces: usize,
    bytes: u64,
}

impl Part {
    /// Opens the part file of `target`; goes on where an earlier fetch `from` the same place
    /// stopped, else starts anew.
    pub(super) fn open(target: &Path, from: String, disk: Disk) -> Result<Self, CatalogueError> {
        let path = with_suffix(target, ".part");
        let state_path = with_suffix(target, ".part.json");
        let unwritable = |cause| CatalogueError::Write { path: path.clone(), kept: None, cause };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(unwritable)?;
        let on_disk = file.metadata().map_err(unwritable)?.len();
        let earlier = fs::read(&state_path)
            .ok()
            .and_then(|json| serde_json::from_slice::<State>(&json).ok())
            .filter(|state| state.from == from && state.bytes <= on_disk);
        let state = earlier.unwrap_or_else(|| {
            // A state of another source must not come to speak for what is written now.
            let _ = fs::remove_file(&state_path);
            State { from, pieces: 0, bytes: 0 }
        });
        file.set_len(state.bytes).map_err(unwritable)?;
        let hasher = hash_start(&mut file).map_err(unwritable)?;
        file.seek(SeekFrom::End(0)).map_err(unwritable)?;
        let writer = (disk.writer)(file.try_clone().map_err(unwritable)?);
        let bytes = state.bytes;
        Ok(Self { target: target.to_owned(), path, state_path, state, file, writer, hasher, bytes })
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Pieces that need not be fetched again.
    pub(super) fn pieces(&self) -> usize {
        self.state.pieces
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), CatalogueError> {
        self.writer.write_all(bytes).map_err(|cause| self.unwritable(cause))?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// A piece is whole: from here a later fetch goes on.
    pub(super) fn end_piece(&mut self) -> Result<(), CatalogueError> {
        self.state.pieces += 1;
        self.state.bytes = self.bytes;
        let saved =
            self.writer.flush().and_then(|()| self.file.sync_data()).and_then(|()| {
                stamp::write_whole(&self.state_path, &serde_json::to_vec(&self.state)?)
            });
        saved.map_err(|cause| self.unwritable(cause))
    }

    /// Forgets the piece that is being written, after its source failed.
    pub(super) fn drop_piece(self) {
        // The state tells what counts; cutting the file only saves room.
        let _ = self.file.set_len(self.state.bytes);
    }

    /// Checks the whole and gives it its final name. Answers its sha256. When the checksum is not
    /// `expected`, or the content not plausible, nothing stays.
    pub(super) fn finish(self, expected: Option<&str>) -> Result<String, Failure> {
        let sha256 = stamp::hex(&self.hasher.clone().finalize());
        let verdict = match expected {
            Some(expected) if expected != sha256 => Err(format!(
                "what arrived is not the file: {} bytes with sha256 {sha256}, expected {expected}",
                self.bytes
            )),
            Some(_) => Ok(()),
            None => check_format(&self.target, &self.path),
        };
        if let Err(reason) = verdict {
            let _ = fs::remove_file(&self.state_path);
            let _ = fs::remove_file(&self.path);
            return Err(Failure::Source(reason));
        }
        let named = self
            .file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, &self.target))
            .and_then(|()| sync_folder(&self.target));
        named.map_err(|cause| self.unwritable(cause))?;
        let _ = fs::remove_file(&self.state_path);
        Ok(sha256)
    }

    fn unwritable(&self, cause: io::Error) -> CatalogueError {
        CatalogueError::Write { path: self.path.clone(), kept: Some(self.path.clone()), cause }
    }
}

/// A file nobody states a checksum for must at least be of the format its name claims.
pub(super) fn check_format(name: &Path, content: &Path) -> Result<(), String> {
    let is_gguf = name.extension().is_some_and(|extension| extension == "gguf");
    let mut magic = Vec::new();
    let read = File::open(content).and_then(|file| file.take(4).read_to_end(&mut magic));
    match read {
        Err(error) => Err(error.to_string()),
        Ok(0) => Err("what arrived is empty".to_owned()),
        Ok(_) if is_gguf && magic != b"GGUF" => {
            Err("what arrived does not start as a GGUF file does".to_owned())
        }
        Ok(_) => Ok(()),
    }
}

/// `path` with `suffix` after its last part.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn hash_start(file: &mut File) -> io::Result<Sha256> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    file.rewind()?;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher);
        }
        hasher.update(&buffer[..read]);
    }
}

/// Makes the new name last through a power cut. Only Unix can sync a folder.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

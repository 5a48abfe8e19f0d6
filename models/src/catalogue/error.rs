//! Why a model could not be had, and what can be done about it.

use super::entry::Source;
use std::{fmt, io, path::PathBuf};

/// Why a model could not be had, and what can be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// Not a name of the catalogue, not a path that exists, not `hf:owner/repo/file`.
    #[error(
        "no model is called '{name}' and no file is at that path.{} Known names: {}. A path or \
         hf:OWNER/REPO/FILE works too",
        did_you_mean(near),
        known.join(", ")
    )]
    Unknown {
        /// As given.
        name: String,
        /// All names.
        known: Vec<&'static str>,
        /// Names that look alike, best first.
        near: Vec<&'static str>,
    },
    /// It looks like a path, and nothing is there.
    #[error("no file or folder is at {path}")]
    NoSuchPath {
        /// As given.
        path: PathBuf,
    },
    /// A hub reference that does not name a file.
    #[error("'{given}' is not a hub reference: {reason}. Write hf:OWNER/REPO/FILE")]
    BadReference {
        /// As given.
        given: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A path was given where a name is needed.
    #[error("{path} is a path: there is nothing to pull; use it as it is")]
    PathNotPulled {
        /// As given.
        path: PathBuf,
    },
    /// No folder to cache in.
    #[error("no folder to keep models in: set CENTO_CACHE_DIR to one")]
    NoCacheFolder,
    /// Not cached, where only the cache was asked.
    #[error("'{name}' is not cached: `cento pull {name}` fetches it")]
    NotCached {
        /// The model.
        name: String,
    },
    /// A cached file is not what it was.
    #[error(
        "{path} is damaged: its sha256 is {found}, expected {expected}. Remove it and pull again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// No source had it.
    #[error(
        "cannot get '{name}':{}\nWhat helps: run it where the network reaches one of these; pass \
         the path of a file you have (--model PATH); or set HF_HOME to a Hugging Face cache that \
         holds it",
        each_on_a_line(attempts)
    )]
    Unavailable {
        /// The model.
        name: String,
        /// Every source tried, in order, with its reason.
        attempts: Vec<Attempt>,
    },
    /// The disk refused.
    #[error("cannot write {path}: {cause}.{}", kept_note(kept.as_ref()))]
    Write {
        /// What was being written.
        path: PathBuf,
        /// What stays for a later pull to go on from.
        kept: Option<PathBuf>,
        /// Why.
        cause: io::Error,
    },
    /// A file of the cache cannot be read.
    #[error("cannot read {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// One source that was tried, and why it did not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The source.
    pub from: Source,
    /// The file it was asked for.
    pub file: String,
    /// Why not.
    pub reason: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.from, self.file, self.reason)
    }
}

/// How one source failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another source may serve.
    Source(String),
    /// No source can help.
    Fatal(CatalogueError),
}

impl From<CatalogueError> for Failure {
    fn from(error: CatalogueError) -> Self {
        Self::Fatal(error)
    }
}

fn each_on_a_line(attempts: &[Attempt]) -> String {
    attempts.iter().fold(String::new(), |text, attempt| text + "\n  " + &attempt.to_string())
}

fn did_you_mean(near: &[&str]) -> String {
    if near.is_empty() { String::new() } else { format!(" Did you mean {}?", near.join(" or ")) }
}

fn kept_note(kept: Option<&PathBuf>) -> String {
    match kept {
        Some(part) => format!(
            " Nothing stands under the final name; {} is kept: make room and pull again to go on",
            part.display()
        ),
        None => " Set CENTO_CACHE_DIR to a folder that can be written".to_owned(),
    }
}

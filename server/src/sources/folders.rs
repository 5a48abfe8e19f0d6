//! Folders whose files may be followed: what the operator allowed, links resolved.

use super::{
    SourceError,
    file::{is_regular, is_same},
};
use std::{
    fs::{self, File},
    io,
    path::{Component, Path, PathBuf},
};

/// Folders whose files may be followed. None, unless the operator allows some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folders(Vec<PathBuf>);

impl Folders {
    /// Those given, which have to be there.
    ///
    /// # Errors
    /// One is not, with its path.
    pub fn new(given: impl IntoIterator<Item = PathBuf>) -> Result<Self, (PathBuf, io::Error)> {
        let resolve = |path: PathBuf| {
            let resolved = fs::canonicalize(&path).and_then(|resolved| {
                let is_folder = fs::metadata(&resolved)?.is_dir();
                is_folder.then_some(resolved).ok_or_else(|| io::ErrorKind::NotADirectory.into())
            });
            resolved.map_err(|error| (path, error))
        };
        given.into_iter().map(resolve).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the file at `path` may be followed, which need not be there yet. Blocking.
    ///
    /// # Errors
    /// It may not, and what would allow it.
    pub fn check(&self, path: &Path) -> Result<(), SourceError> {
        if !path.is_absolute() {
            return Err(SourceError::RelativePath(path.to_owned()));
        }
        let resolved = resolve(path).filter(|resolved| self.holds(resolved));
        resolved.map(drop).ok_or_else(|| self.refusal(path))
    }

    /// Opens the file at `path`. Blocking.
    ///
    /// # Errors
    /// It may not be followed, or cannot be opened, or is no regular file.
    pub(crate) fn open(&self, path: &Path) -> Result<File, SourceError> {
        let unreadable = |error: io::Error| SourceError::File(path.to_owned(), error.to_string());
        self.check(path)?;
        // Asked before, as the opening of a pipe would wait for a writer.
        if !is_regular(path).map_err(unreadable)? {
            return Err(SourceError::File(path.to_owned(), "it is no regular file".to_owned()));
        }
        let file = File::open(path).map_err(unreadable)?;
        // A link may have been put there since: what was opened is what lies below the folder.
        let resolved = fs::canonicalize(path).map_err(unreadable)?;
        let there = fs::symlink_metadata(&resolved).map_err(unreadable)?;
        let opened = file.metadata().map_err(unreadable)?;
        if self.holds(&resolved) && is_same(&there, &opened) {
            Ok(file)
        } else {
            Err(self.refusal(path))
        }
    }

    fn holds(&self, resolved: &Path) -> bool {
        self.0.iter().any(|folder| resolved.starts_with(folder) && resolved != folder)
    }

    fn refusal(&self, path: &Path) -> SourceError {
        SourceError::PathNotAllowed(path.to_owned(), !self.0.is_empty())
    }
}

/// A path without links, whose last parts need not be there; `None` where those could lead anywhere.
fn resolve(path: &Path) -> Option<PathBuf> {
    let mut there = path.to_owned();
    let mut rest = Vec::new();
    loop {
        if let Ok(mut resolved) = fs::canonicalize(&there) {
            resolved.extend(rest.iter().rev());
            return Some(resolved);
        }
        // A link that leads nowhere may lead somewhere later.
        if fs::symlink_metadata(&there).is_ok() {
            return None;
        }
        match there.components().next_back()? {
            Component::Normal(name) => rest.push(name.to_owned()),
            _ => return None,
        }
        there.pop();
    }
}

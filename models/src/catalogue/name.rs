//! What a person calls a model: a name, a path, or a hub reference.

use super::{
    entry::{Entry, FileEntry, HubFile},
    error::CatalogueError,
    table::MODELS,
};
use std::{borrow::Cow, cmp::Reverse, path::PathBuf};

/// A model, as asked for.
#[derive(Clone, Debug)]
pub(super) enum ModelName {
    /// A file or folder that exists.
    Path(PathBuf),
    /// Something to look up or fetch.
    Entry(Entry),
}

/// Reads what was asked for. A catalogue name wins over a file of that name.
pub(super) fn parse(text: &str) -> Result<ModelName, CatalogueError> {
    if let Some(entry) = MODELS.iter().find(|entry| entry.name.eq_ignore_ascii_case(text)) {
        return Ok(ModelName::Entry(entry.clone()));
    }
    if let Some(reference) = text.strip_prefix("hf:") {
        return hub_reference(text, reference).map(ModelName::Entry);
    }
    let path = PathBuf::from(text);
    if !text.is_empty() && path.exists() {
        return Ok(ModelName::Path(path));
    }
    let looks_like_path = text.contains(['/', '\\']) || path.extension().is_some_and(is_weights);
    if looks_like_path {
        return Err(CatalogueError::NoSuchPath { path });
    }
    let known: Vec<&'static str> = MODELS.iter().map(name_of).collect();
    let near = near(text, &known);
    Err(CatalogueError::Unknown { name: text.to_owned(), known, near })
}

fn hub_reference(given: &str, reference: &str) -> Result<Entry, CatalogueError> {
    let bad = |reason| CatalogueError::BadReference { given: given.to_owned(), reason };
    let mut parts = reference.splitn(3, '/');
    let (Some(owner), Some(repo), Some(file)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(bad("it does not name a file"));
    };
    // These become folders of the cache: nothing may climb out of it or hide in it.
    let is_plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_alphanumeric() || "-_.+ ".contains(c))
    };
    if !is_plain(owner) || !is_plain(repo) {
        return Err(bad("owner and repository are letters, digits, '-', '_' and '.'"));
    }
    if !file.split('/').all(is_plain) {
        return Err(bad("the file's path has a part that is empty, hidden, or oddly named"));
    }
    let hub = HubFile {
        repo: Cow::Owned(format!("{owner}/{repo}")),
        path: Cow::Owned(file.to_owned()),
        sha256: None,
    };
    Ok(Entry {
        name: Cow::Owned(given.to_owned()),
        description: "",
        arch: None,
        licence: None,
        is_folder: false,
        files: Cow::Owned(vec![FileEntry {
            name: Cow::Owned(file.to_owned()),
            hub: Some(hub),
            wheel: None,
        }]),
    })
}

fn name_of(entry: &'static Entry) -> &'static str {
    &entry.name
}

fn is_weights(extension: &std::ffi::OsStr) -> bool {
    extension.eq_ignore_ascii_case("gguf") || extension.eq_ignore_ascii_case("safetensors")
}

/// Up to three names that share most letters with `text`, best first.
fn near(text: &str, known: &[&'static str]) -> Vec<&'static str> {
    let text = text.to_lowercase();
    let likeness = |name: &str| {
        let distance = edits(&text, name);
        let contained = text.len() >= 3 && (name.contains(&text) || text.contains(name));
        let close = distance * 3 <= name.len();
        (contained || close).then_some(Reverse(distance))
    };
    let mut near: Vec<_> =
        known.iter().filter_map(|name| likeness(name).map(|score| (score, *name))).collect();
    near.sort_by_key(|(score, _)| Reverse(*score));
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Levenshtein distance: single-letter edits from `a` to `b`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

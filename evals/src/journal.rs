//! The journal of a run that is not finished: a line for each item done, beside where the result
//! will be. A run that was stopped in any way goes on where its journal ends.

use crate::outcome::difference;
use anyhow::{Context as _, bail};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{File, TryLockError},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

/// What a journal's name ends in, behind the name of the result.
pub(crate) const EXTENSION: &str = "partial.jsonl";

/// An open journal; no other process can open it.
#[derive(Debug)]
pub(crate) struct Journal<T> {
    file: File,
    path: PathBuf,
    /// Items done, in order.
    pub(crate) done: Vec<T>,
}

/// Where the journal of the result at `result` is.
pub(crate) fn path(result: &Path) -> PathBuf {
    result.with_added_extension(EXTENSION)
}

impl<T: Serialize + DeserializeOwned> Journal<T> {
    /// Begins a journal, or reads the one that is there. A line that was being written when the
    /// run was stopped is cut off.
    pub(crate) fn open<H>(result: &Path, header: &H) -> anyhow::Result<Self>
    where
        H: Serialize + DeserializeOwned,
    {
        let path = path(result);
        let shown = path.display().to_string();
        let options = File::options().read(true).append(true).create(true).open(&path);
        let mut file = options.with_context(|| format!("opening {shown}"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("{shown}: another run is writing it"),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {shown}"));
            }
        }
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(|| format!("reading {shown}"))?;
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        let mut journal = Self { file, path, done: Vec::new() };
        if let Some((first, items)) = text.split_once('\n') {
            let known: H = serde_json::from_str(first)
                .with_context(|| format!("{shown} line 1 is no run's header"))?;
            match difference(header, &known) {
                Some(difference) if !items.is_empty() => bail!(
                    "{shown} is of another run: {difference}; remove it or name another --json"
                ),
                // A run that measured nothing left nothing to lose.
                Some(_) => text.clear(),
                None => journal.done = read(items, &shown)?,
            }
        }
        journal.file.set_len(text.len() as u64).with_context(|| format!("cutting {shown}"))?;
        if text.is_empty() {
            journal.write(header)?;
        }
        Ok(journal)
    }

    /// Adds an item for good: it is on the disk when this returns.
    pub(crate) fn add(&mut self, item: T) -> anyhow::Result<()> {
        self.write(&item)?;
        self.done.push(item);
        Ok(())
    }

    fn write(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        let line = serde_json::to_string(line)? + "\n";
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        written.with_context(|| format!("writing {}", self.path.display()))
    }

    /// Removes the journal, once its result is there.
    pub(crate) fn remove(self) -> anyhow::Result<()> {
        std::fs::remove_file(&self.path)
            .with_context(|| format!("removing {}", self.path.display()))
    }
}

/// Items, one a line, behind the header.
fn read<T: DeserializeOwned>(items: &str, shown: &str) -> anyhow::Result<Vec<T>> {
    let item = |(at, line)| {
        serde_json::from_str(line).with_context(|| format!("{shown} line {} is no item", at + 2))
    };
    items.lines().enumerate().map(item).collect()
}

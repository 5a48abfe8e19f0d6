//! Names that clients gave to fragments, for listings only: the engine knows fragments by content.
//!
//! Where KV is kept on disk, names are kept in a file beside it (`fragment_names/file.rs`), so that
//! both are back after a restart. It is written a while after a change, and when the server stops.

mod file;

use crate::limits::FRAGMENT_NAMES_MAX;
use engine::FragmentId;
use file::{Named, NamesFile};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What the server remembers of a fragment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FragmentName {
    /// The client's name for it.
    pub name: Option<String>,
    /// First put, in Unix seconds.
    pub created: u64,
}

/// A bounded map from fragments to names; the oldest entries go first.
#[derive(Debug, Default)]
pub struct FragmentNames {
    names: Mutex<Names>,
    /// Locked before `names`, by whoever writes it.
    file: Option<Mutex<NamesFile>>,
}

#[derive(Debug, Default)]
struct Names {
    by_fragment: HashMap<Key, (u64, FragmentName)>,
    by_age: BTreeMap<u64, Key>,
    next: u64,
    /// Something is not in the file yet.
    is_changed: bool,
}

type Key = (Arc<str>, FragmentId);

impl FragmentNames {
    /// None yet, and kept in memory only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those in the folder's file, which is kept up to date by [`Self::save`]. A file that cannot be
    /// read is logged, and set aside where it is there. Blocking.
    pub fn kept_in(folder: &Path) -> Self {
        let file = NamesFile::in_folder(folder);
        let mut names = Names::default();
        for (key, FragmentName { name, created }) in file.read_or_set_aside() {
            names.enter(key, name, created);
        }
        names.is_changed = false;
        Self { names: Mutex::new(names), file: Some(Mutex::new(file)) }
    }

    /// Writes the file, where there is one and something has changed. A failure is logged, and tried
    /// again next time. Blocking.
    pub fn save(&self) {
        let Some(file) = &self.file else { return };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = self.lock();
        if !std::mem::take(&mut names.is_changed) {
            return;
        }
        let all: Vec<Named> = names.iter().map(Named::from).collect();
        drop(names);
        if !file.write(all) {
            self.lock().is_changed = true;
        }
    }

    /// Remembers a fragment. A name replaces an earlier one; no name leaves it.
    pub fn put(&self, tenant: &Arc<str>, id: FragmentId, name: Option<String>, now: u64) {
        self.lock().enter((Arc::clone(tenant), id), name, now);
    }

    /// What is remembered.
    pub fn get(&self, tenant: &Arc<str>, id: FragmentId) -> Option<FragmentName> {
        let names = self.lock();
        names.by_fragment.get(&(Arc::clone(tenant), id)).map(|(_, name)| name.clone())
    }

    /// Forgets a fragment.
    pub fn remove(&self, tenant: &Arc<str>, id: FragmentId) {
        let mut names = self.lock();
        if let Some((age, _)) = names.by_fragment.remove(&(Arc::clone(tenant), id)) {
            names.by_age.remove(&age);
            names.is_changed = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        // Every change leaves the maps whole, so a panic elsewhere does not spoil them.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    /// Enters a fragment as the latest one.
    fn enter(&mut self, key: Key, name: Option<String>, now: u64) {
        let age = self.next;
        self.next += 1;
        let first = || (age, FragmentName { name: None, created: now });
        let (known_age, known) = self.by_fragment.entry(key.clone()).or_insert_with(first);
        // Age alone is not worth writing.
        self.is_changed |= *known_age == age || name.is_some() && name != known.name;
        self.by_age.remove(known_age);
        *known_age = age;
        if name.is_some() {
            known.name = name;
        }
        self.by_age.insert(age, key);
        if self.by_age.len() > FRAGMENT_NAMES_MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_fragment.remove(&oldest);
        }
    }

    /// All, the oldest first.
    fn iter(&self) -> impl Iterator<Item = (&Key, &FragmentName)> {
        self.by_age.values().map(|key| (key, &self.by_fragment[key].1))
    }
}

#[cfg(test)]
mod tests;

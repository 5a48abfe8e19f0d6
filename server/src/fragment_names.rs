//! Names that clients gave to fragments, for listings only: the engine knows fragments by content.

use crate::limits::FRAGMENT_NAMES_MAX;
use engine::FragmentId;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
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
}

#[derive(Debug, Default)]
struct Names {
    by_fragment: HashMap<(Arc<str>, FragmentId), (u64, FragmentName)>,
    by_age: BTreeMap<u64, (Arc<str>, FragmentId)>,
    next: u64,
}

impl FragmentNames {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers a fragment. A name replaces an earlier one; no name leaves it.
    pub fn put(&self, tenant: &Arc<str>, id: FragmentId, name: Option<String>, now: u64) {
        let mut names = self.lock();
        let names = &mut *names;
        let key = (Arc::clone(tenant), id);
        let age = names.next;
        names.next += 1;
        let entry = names.by_fragment.entry(key.clone());
        let (known_age, known) =
            entry.or_insert_with(|| (age, FragmentName { name: None, created: now }));
        names.by_age.remove(known_age);
        *known_age = age;
        if name.is_some() {
            known.name = name;
        }
        names.by_age.insert(age, key);
        if names.by_age.len() > FRAGMENT_NAMES_MAX
            && let Some((_, oldest)) = names.by_age.pop_first()
        {
            names.by_fragment.remove(&oldest);
        }
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
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Names> {
        // Every change leaves the maps whole, so a panic elsewhere does not spoil them.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

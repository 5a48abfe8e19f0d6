//! Files that fail at a chosen operation, over a real folder.
//!
//! Nothing is really synced. Instead it is remembered what a power cut could take back: names
//! changed since their folder was last synced.

use super::super::files::{Files, Found, Lock, System};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::SystemTime,
};

/// What befalls the operation that fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    /// Operations that succeed before.
    pub(super) after: usize,
    /// It is done by half, or done but said to have failed; otherwise it is not done at all.
    pub(super) midway: bool,
    pub(super) then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Then {
    /// The process is dead, and so many of the changes of names that were not synced are undone.
    Dead { undone: usize },
    /// The disk was full; all that follows succeeds.
    Full,
    /// The thread panics.
    Panic,
}

#[derive(Clone)]
pub(super) struct Faulty(Arc<Mutex<State>>);

struct State {
    fault: Fault,
    operations: usize,
    /// What the operation that failed removed all the same.
    removed: Option<PathBuf>,
    /// Content of files before each change since the last sync; none: there was no file.
    unsynced: Vec<Vec<(PathBuf, Option<Vec<u8>>)>>,
}

impl Faulty {
    pub(super) fn new(fault: Fault) -> Self {
        Self(Arc::new(Mutex::new(State {
            fault,
            operations: 0,
            removed: None,
            unsynced: Vec::new(),
        })))
    }

    /// Files that never fail, and are quick.
    pub(super) fn never() -> Self {
        Self::new(Fault { after: usize::MAX, midway: false, then: Then::Full })
    }

    /// Whether the fault has come.
    pub(super) fn has_struck(&self) -> bool {
        let state = self.0.lock().unwrap();
        state.operations > state.fault.after
    }

    /// Whether the operation that failed removed a file of this name all the same.
    pub(super) fn removed_midway(&self, name: &str) -> bool {
        let state = self.0.lock().unwrap();
        state.removed.as_ref().is_some_and(|path| path.ends_with(name))
    }

    fn run<T>(
        &self,
        changes: &[&Path],
        whole: impl FnOnce() -> io::Result<T>,
        half: impl FnOnce(&mut State),
    ) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        let (operation, fault) = (state.operations, state.fault);
        state.operations += 1;
        if operation > fault.after && matches!(fault.then, Then::Dead { .. }) {
            return Err(io::Error::other("the process is dead"));
        }
        if !changes.is_empty() {
            let before = changes.iter().map(|path| (path.to_path_buf(), fs::read(path).ok()));
            let before = before.collect();
            state.unsynced.push(before);
        }
        if operation != fault.after {
            return whole();
        }
        if fault.midway {
            half(&mut state);
        }
        match fault.then {
            Then::Dead { undone } => state.undo(undone),
            Then::Full => {}
            Then::Panic => panic!("a test has this thread panic"),
        }
        Err(io::ErrorKind::StorageFull.into())
    }
}

impl State {
    /// The process sees no more of what it does. Otherwise what is said to have failed has.
    fn is_dying(&self) -> bool {
        matches!(self.fault.then, Then::Dead { .. })
    }

    fn undo(&mut self, changes: usize) {
        let first = self.unsynced.len().saturating_sub(changes);
        for (path, before) in self.unsynced.drain(first..).rev().flatten() {
            match before {
                Some(bytes) => fs::write(path, bytes).unwrap(),
                None => drop(fs::remove_file(path)),
            }
        }
    }
}

impl Files for Faulty {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.run(&[], || System.create_folder(folder), |_| drop(System.create_folder(folder)))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        self.run(&[], || System.lock(path), |_| ())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Found>> {
        self.run(&[], || System.list(folder), |_| ())
    }

    fn open(&self, path: &Path) -> io::Result<(File, u64)> {
        self.run(&[], || System.open(path), |_| ())
    }

    fn read_ahead(&self, path: &Path) -> io::Result<()> {
        self.run(&[], || System.read_ahead(path), |_| ())
    }

    fn read(&self, file: &mut File, bytes: usize, memory: Vec<u8>) -> io::Result<Vec<u8>> {
        self.run(&[], || System.read(file, bytes, memory), |_| ())
    }

    fn write(&self, path: &Path, parts: &[&[u8]], modified: SystemTime) -> io::Result<()> {
        let bytes = parts.concat();
        let whole = || {
            fs::write(path, &bytes)?;
            System.touch(path, modified)
        };
        self.run(&[path], whole, |_| fs::write(path, &bytes[..bytes.len() / 2]).unwrap())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let rename = || System.rename(from, to);
        self.run(&[from, to], rename, |state| drop(state.is_dying().then(rename)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let remove = || System.remove(path);
        self.run(&[path], remove, |state| {
            state.removed = state.is_dying().then(remove).map(|_| path.to_path_buf());
        })
    }

    fn touch(&self, path: &Path, modified: SystemTime) -> io::Result<()> {
        self.run(&[], || System.touch(path, modified), |_| ())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.run(&[], || Ok(()), |_| ())?;
        self.0.lock().unwrap().unsynced.clear();
        Ok(())
    }
}

//! A fault at every operation on files, in turn: what is opened afterwards is never wrong, and
//! never less than what was promised.

use super::{
    Folder,
    faulty::{Fault, Faulty, Then},
    file_name, id, record,
};
use crate::{
    FragmentId,
    tier::{Notice, disk::store::Store, worker::Records as _},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    sync::Arc,
};

/// Clean records that there is room for: as much as four sealed ones take.
const ROOM: usize = 5;

/// What a store has promised.
#[derive(Default)]
struct Book {
    /// Records that are there, and whether pinned where that is certain.
    kept: BTreeMap<FragmentId, Option<bool>>,
    /// Records that are not there.
    removed: BTreeSet<FragmentId>,
}

/// One run over a store whose files may fail.
struct Run<'a> {
    store: Store,
    faulty: &'a Faulty,
    book: &'a mut Book,
}

impl Run<'_> {
    fn keep(&mut self, n: u8, pinned: bool) {
        let (entry, kv) = record(n, pinned);
        self.book.removed.remove(&entry.id);
        self.store.keep(entry, &Arc::new(kv));
        for notice in self.store.take_notices() {
            match notice {
                Notice::Kept(id) => {
                    let certain = (!self.faulty.has_struck()).then_some(pinned);
                    self.book.kept.insert(id, certain);
                }
                Notice::Gone(id) => drop(self.book.kept.remove(&id)),
                other => panic!("{other:?} was not asked for"),
            }
        }
    }

    fn fetch(&mut self, n: u8) {
        let (entry, kv) = record(n, false);
        match self.store.fetch(&entry) {
            Some(fetched) => assert_eq!(*fetched, kv, "wrong bytes of {}", entry.id),
            None => drop(self.book.kept.remove(&entry.id)),
        }
    }

    fn remove(&mut self, n: u8) {
        self.book.kept.remove(&id(n));
        self.store.remove(id(n));
        if !self.faulty.has_struck() {
            self.book.removed.insert(id(n));
        }
    }

    fn pin(&mut self, n: u8, pinned: bool) {
        self.store.pin(id(n), pinned);
        if let Some(certain) = self.book.kept.get_mut(&id(n)) {
            *certain = (!self.faulty.has_struck()).then_some(pinned);
        }
    }
}

/// A folder as an earlier life left it: two records, one that was cut since, a file that was being
/// written, and one that was set aside.
fn earlier(folder: &Folder, book: &mut Book) {
    let faulty = Faulty::never();
    let store = folder.store_over(ROOM, faulty.clone()).unwrap();
    let mut run = Run { store, faulty: &faulty, book };
    run.keep(1, false);
    run.keep(2, true);
    run.keep(3, false);
    run.book.kept.remove(&id(3));
    let cut = OpenOptions::new().write(true).open(folder.path_of(3, false)).unwrap();
    cut.set_len(cut.metadata().unwrap().len() - 1).unwrap();
    fs::write(folder.path().join("frg_0.tmp-7"), b"half").unwrap();
    fs::write(folder.path().join("frg_0.safetensors.bad"), b"odd").unwrap();
}

/// Everything that writes, reads or deletes files, with records given up for room.
fn script(run: &mut Run<'_>) {
    run.keep(b'S', false);
    run.fetch(1);
    run.keep(5, true);
    run.keep(6, false);
    run.pin(1, true);
    run.pin(2, false);
    run.fetch(2);
    run.remove(6);
    run.keep(6, false);
    run.keep(b'T', false);
    run.keep(5, false);
    run.fetch(5);
    run.keep(8, false);
    run.fetch(b'S');
    run.remove(1);
    run.fetch(8);
}

/// The store holds nothing but what was put, and all that the book says.
fn check(store: &mut Store, book: &Book, case: &Fault) {
    let entries = store.entries();
    for entry in &entries {
        let n = entry.id.0[0];
        let (expected, kv) = record(n, entry.pinned);
        assert_eq!(*entry, expected, "{case:?}");
        assert_eq!(store.fetch(entry).as_deref(), Some(&kv), "{case:?}: record {n}");
        assert!(!book.removed.contains(&entry.id), "{case:?}: record {n} was removed");
    }
    for (id, pinned) in &book.kept {
        let entry = entries.iter().find(|entry| entry.id == *id);
        let entry = entry.unwrap_or_else(|| panic!("{case:?}: {id} was kept and is not there"));
        assert!(pinned.is_none_or(|pinned| entry.pinned == pinned), "{case:?}: pin of {id}");
    }
}

/// The folder holds the store's records, and nothing else but what `earlier` left.
fn check_files(folder: &Folder, store: &Store, case: &Fault) {
    let entries = store.entries();
    let mut expected: Vec<String> =
        entries.iter().map(|entry| file_name(entry.id, entry.pinned)).collect();
    expected.sort();
    let mut names = folder.names();
    names.retain(|name| !name.starts_with("frg_0.") && !name.starts_with(&id(3).to_string()));
    assert_eq!(names, expected, "{case:?}");
}

/// Runs the script with a fault; `false`: it was over before the fault.
fn strike(fault: Fault) -> bool {
    let folder = Folder::new();
    let mut book = Book::default();
    earlier(&folder, &mut book);
    let faulty = Faulty::new(fault);
    if let Ok(store) = folder.store_over(ROOM, faulty.clone()) {
        let opened_well = !faulty.has_struck();
        let mut run = Run { store, faulty: &faulty, book: &mut book };
        script(&mut run);
        let mut store = run.store;
        // A crash leaves nobody to tell of a record that was given up just then.
        book.kept.retain(|id, _| !faulty.removed_midway(&file_name(*id, false)));
        if fault.then == Then::Full && faulty.has_struck() {
            check(&mut store, &book, &fault);
            if opened_well {
                check_files(&folder, &store, &fault);
            }
        }
    }
    let has_struck = faulty.has_struck();
    let opened = folder.store_over(ROOM, Faulty::never());
    let mut store = opened.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
    check(&mut store, &book, &fault);
    check_files(&folder, &store, &fault);
    assert!(!folder.names().contains(&"frg_0.tmp-7".to_owned()), "{fault:?}: a leftover");
    let bytes = folder.bytes();
    assert_eq!(bytes, store.figures().bytes, "{fault:?}: the books");
    assert!(bytes <= folder.config(ROOM).bytes_max, "{fault:?}: over the budget");
    has_struck
}

/// Strikes at every operation until there is none left.
fn strike_everywhere(midway: bool, then: Then) {
    let mut after = 0;
    while strike(Fault { after, midway, then }) {
        after += 1;
    }
    assert!(after > 60, "the script has more operations than {after}");
}

#[test]
fn nothing_is_lost_by_a_crash_at_any_operation() {
    for midway in [false, true] {
        for undone in [0, 1, usize::MAX] {
            strike_everywhere(midway, Then::Dead { undone });
        }
    }
}

#[test]
fn a_full_disk_costs_what_was_to_be_written_and_no_more() {
    strike_everywhere(false, Then::Full);
    strike_everywhere(true, Then::Full);
}

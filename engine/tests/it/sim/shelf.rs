//! A tier in memory: slow, small, and unreliable, but never wrong. Half of them are shared: they
//! hold records that they did not list, as if another server had written them.

use super::chance::Chance;
use engine::{Entry, Figures, FragmentId, Kv, Notice, Tier};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

/// The handle outlives the engine that writes through it, as a disk does.
#[derive(Clone)]
pub(super) struct Shelf(Arc<Mutex<Books>>);

struct Books {
    chance: Chance,
    /// Records it holds at most, beside pinned ones.
    room: usize,
    /// The least recently used first.
    records: Vec<(Entry, Kv)>,
    notices: VecDeque<Notice>,
    unlisted_rows_min: Option<usize>,
    /// Told of to the engine that there is now.
    known: BTreeSet<FragmentId>,
    /// Fetches of what was not told of, that brought something and that did not.
    unlisted: [usize; 2],
    /// The same of what was sealed.
    sealed: [usize; 2],
}

impl Shelf {
    pub(super) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x5e1f);
        let room = chance.within(1, 12);
        let unlisted_rows_min = chance.one_in(2).then(|| chance.within(1, 4));
        Self(Arc::new(Mutex::new(Books {
            chance,
            room,
            records: Vec::new(),
            notices: VecDeque::new(),
            unlisted_rows_min,
            known: BTreeSet::new(),
            unlisted: [0; 2],
            sealed: [0; 2],
        })))
    }

    /// Fetches of what was not told of, that brought something and that did not.
    pub(super) fn unlisted(&self) -> [usize; 2] {
        self.0.lock().unwrap().unlisted
    }

    /// Fetches of what was sealed, that brought something and that did not.
    pub(super) fn sealed(&self) -> [usize; 2] {
        self.0.lock().unwrap().sealed
    }

    pub(super) fn holds(&self, id: FragmentId) -> bool {
        self.0.lock().unwrap().place(id).is_some()
    }

    /// The process that held it is gone: what it was to hear is lost.
    pub(super) fn forget_notices(&self) {
        self.0.lock().unwrap().notices.clear();
    }
}

impl Books {
    fn place(&self, id: FragmentId) -> Option<usize> {
        self.records.iter().position(|(entry, _)| entry.id == id)
    }

    fn make_room(&mut self) {
        while self.records.len() > self.room {
            let unpinned = self.records.iter().enumerate().filter(|(_, (entry, _))| !entry.pinned);
            // Of equals, the first.
            let first = unpinned.min_by_key(|(_, (entry, _))| entry.sealed.is_some());
            let Some((place, _)) = first else { return };
            let (entry, _) = self.records.remove(place);
            self.notices.push_back(Notice::Gone(entry.id));
        }
    }
}

impl Tier for Shelf {
    fn entries(&mut self) -> Vec<Entry> {
        let mut books = self.0.lock().unwrap();
        let Books { chance, records, unlisted_rows_min, known, .. } = &mut *books;
        let mut is_listed = || unlisted_rows_min.is_none() || chance.one_in(2);
        let listed = records.iter().filter(|_| is_listed()).map(|(entry, _)| entry.clone());
        let listed: Vec<Entry> = listed.collect();
        *known = listed.iter().map(|entry| entry.id).collect();
        listed
    }

    fn unlisted_rows_min(&self) -> Option<usize> {
        self.0.lock().unwrap().unlisted_rows_min
    }

    fn keep(&mut self, entry: Entry, kv: Kv) -> bool {
        let mut books = self.0.lock().unwrap();
        let books = &mut *books;
        if !books.notices.is_empty() && books.chance.one_in(3) {
            return false;
        }
        let same = books.place(entry.id).map(|place| books.records.remove(place));
        if let Some((_, there)) = same {
            assert!(books.unlisted_rows_min.is_some(), "{} is kept twice", entry.id);
            assert_eq!(there, kv, "the same record of two servers");
        }
        books.known.insert(entry.id);
        if books.chance.one_in(6) {
            books.notices.push_back(Notice::Gone(entry.id));
            return true;
        }
        books.notices.push_back(Notice::Kept(entry.id));
        books.records.push((entry, kv));
        books.make_room();
        true
    }

    fn fetch(&mut self, asked: Entry) {
        let id = asked.id;
        let mut books = self.0.lock().unwrap();
        let books = &mut *books;
        let is_shared = books.unlisted_rows_min.is_some_and(|min| asked.tokens.len() >= min);
        let is_news = books.known.insert(id) && is_shared;
        let notice = match books.place(id) {
            Some(place) => {
                let (entry, kv) = books.records.remove(place);
                if books.chance.one_in(6) {
                    Notice::Lost(id)
                } else {
                    books.records.push((entry, kv.clone()));
                    Notice::Arrived { id, kv, took: Duration::from_millis(7) }
                }
            }
            None => Notice::Lost(id),
        };
        let is_lost = matches!(notice, Notice::Lost(_));
        if is_lost {
            books.known.remove(&id);
        }
        books.unlisted[usize::from(is_lost)] += usize::from(is_news);
        books.sealed[usize::from(is_lost)] += usize::from(asked.sealed.is_some());
        books.notices.push_back(notice);
    }

    fn remove(&mut self, id: FragmentId, _: usize) {
        let mut books = self.0.lock().unwrap();
        books.known.remove(&id);
        books.records.retain(|(entry, _)| entry.id != id);
    }

    fn pin(&mut self, id: FragmentId, pinned: bool) {
        let mut books = self.0.lock().unwrap();
        books.records.iter_mut().filter(|(e, _)| e.id == id).for_each(|(e, _)| e.pinned = pinned);
    }

    fn poll(&mut self) -> Option<Notice> {
        let mut books = self.0.lock().unwrap();
        if books.chance.one_in(2) { books.notices.pop_front() } else { None }
    }

    fn wait(&mut self, _: Duration) -> Option<Notice> {
        self.0.lock().unwrap().notices.pop_front()
    }

    fn figures(&self) -> Figures {
        let records = self.0.lock().unwrap().records.len();
        Figures { records, ..Figures::default() }
    }

    fn close(&mut self) {}
}

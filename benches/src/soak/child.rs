//! The server as a process of this bench: started, looked at from outside, stopped.

use anyhow::{Context, bail};
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// The model may have to be fetched first.
const START_LIMIT: Duration = Duration::from_mins(10);
/// Beyond the time that the server gives its generations, and its connections to be flushed.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const GRACE_SECONDS: &str = "10";

/// A running server.
pub(crate) struct Server {
    child: Child,
    pub(crate) base: String,
}

impl Server {
    /// Starts it on a free port of 127.0.0.1 and waits until it says where.
    pub(crate) fn start(program: &Path, model: &str, more: &[String]) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .args(["serve", "--model", model, "--host", "127.0.0.1", "--port", "0"])
            .args(["--grace", GRACE_SECONDS, "--log", "warn"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let said = child.stderr.take().context("a pipe from the server")?;
        let mut server = Self { child, base: String::new() };
        server.base = listen(said).recv_timeout(START_LIMIT).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => anyhow::anyhow!("not ready after {START_LIMIT:?}"),
            mpsc::RecvTimeoutError::Disconnected => {
                anyhow::anyhow!("the server ended before it was ready; what it said stands above")
            }
        })?;
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to stop and waits; whoever does not stop is killed.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let Some(status) = self.end()? else { bail!("it did not stop within {STOP_LIMIT:?}") };
        anyhow::ensure!(status.success(), "it ended with {status}");
        Ok(())
    }

    /// How it ended by itself; nothing when it had to be killed.
    fn end(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(Some(status));
        }
        // It has not been waited for, so the number is still its own.
        let pid = self.child.id().to_string();
        if Command::new("kill").args(["-TERM", &pid]).status().is_ok_and(|told| told.success()) {
            let step = Duration::from_millis(50);
            for _ in 0..STOP_LIMIT.as_millis() / step.as_millis() {
                if let Some(status) = self.child.try_wait()? {
                    return Ok(Some(status));
                }
                thread::sleep(step);
            }
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(None)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After an error there is nobody left to tell.
        let _ = self.end();
    }
}

/// Passes on what the server says, and picks out of it where it listens.
fn listen(said: ChildStderr) -> mpsc::Receiver<String> {
    let (sender, address) = mpsc::channel();
    thread::spawn(move || {
        let mut sender = Some(sender);
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            eprintln!("{line}");
            let from = line.find(" ready on ").and_then(|at| line[at..].find("http://"));
            let address =
                from.and_then(|_| line.split_whitespace().find(|w| w.starts_with("http")));
            if let Some((address, sender)) = address.and_then(|a| Some((a, sender.take()?))) {
                // The receiver is gone only when starting was given up.
                let _ = sender.send(address.to_owned());
            }
        }
    });
    address
}

/// `cento` beside this program.
pub(crate) fn beside() -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe().context("where this program is")?;
    let program = here.with_file_name(format!("cento{}", std::env::consts::EXE_SUFFIX));
    if !program.exists() {
        let release = if cfg!(debug_assertions) { "" } else { " --release" };
        bail!("{} is not there; `cargo build{release}` makes it", program.display());
    }
    Ok(program)
}

/// Open files of a process, where the system says.
pub(crate) fn open_files(pid: u32) -> Option<usize> {
    Some(std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

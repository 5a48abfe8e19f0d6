//! A command that is run again and again: what it writes is an entry whenever it is another.
//!
//! Only command lines of the operator's are run, as they are: no shell, nothing of a client's in them.
//! A run has bounds of time and output. It has a process group of its own, which is ended as a whole
//! when a bound is passed, when the side context is deleted, and when the server stops.

use super::{
    SourceError,
    text::{Last, entry},
};
use crate::limits::{
    SIDE_ENTRY_BYTES_MAX, SOURCE_COMMAND_ERROR_BYTES_MAX, SOURCE_COMMAND_TIMEOUT,
    SOURCE_OUTPUT_BYTES_MAX,
};
use std::{process::Stdio, str::FromStr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
};

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    program: String,
    arguments: Vec<String>,
}

impl FromStr for CommandLine {
    type Err = String;

    /// Words are split and quoted as in a shell; nothing else of a shell is known.
    fn from_str(text: &str) -> Result<Self, String> {
        let words = shlex::split(text).ok_or("a quote or a backslash is not closed")?;
        let mut words = words.into_iter();
        let program = words.next().filter(|program| !program.is_empty()).ok_or("no program")?;
        Ok(Self { program, arguments: words.collect() })
    }
}

/// A command and what it wrote last.
#[derive(Debug)]
pub(crate) struct Repeated {
    line: CommandLine,
    last: Last,
    limit: Duration,
}

impl Repeated {
    /// It was not run yet.
    pub(crate) fn new(line: CommandLine) -> Self {
        Self { line, last: Last::default(), limit: SOURCE_COMMAND_TIMEOUT }
    }

    /// Runs it once; what it wrote, when that is another than the last time.
    ///
    /// # Errors
    /// It cannot be run, fails, or passes a bound.
    pub(crate) async fn poll(&mut self) -> Result<Vec<String>, SourceError> {
        let written = self.run().await?;
        if !self.last.is_other(&written.kept) {
            return Ok(Vec::new());
        }
        Ok(entry(&written.kept, written.total).into_iter().collect())
    }

    async fn run(&self) -> Result<Written, SourceError> {
        let CommandLine { program, arguments } = &self.line;
        let mut command = Command::new(program);
        command.args(arguments).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        command.process_group(0);
        let spawned = command.spawn();
        let mut child =
            spawned.map_err(|error| SourceError::Spawn(program.clone(), error.to_string()))?;
        // Whoever drops this future ends the group.
        let group = Group::of(&child);
        let ended = tokio::time::timeout(self.limit, watch(&mut child)).await;
        match ended {
            Ok(Ok((status, output, errors))) => {
                group.release();
                if status.success() {
                    return Ok(output);
                }
                let said = String::from_utf8_lossy(&errors.kept);
                let said = said.lines().next().map(|line| format!(": {line}")).unwrap_or_default();
                Err(SourceError::Ended(status.to_string(), said))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SourceError::Slow(self.limit)),
        }
    }
}

/// Reads what a command writes, to the end of both.
async fn watch(
    child: &mut Child,
) -> Result<(std::process::ExitStatus, Written, Written), SourceError> {
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let (output, errors) = tokio::try_join!(
        Written::read(output, SIDE_ENTRY_BYTES_MAX),
        Written::read(errors, SOURCE_COMMAND_ERROR_BYTES_MAX),
    )?;
    let status = child.wait().await;
    let status = status.map_err(|error| SourceError::NoAnswer(error.to_string()))?;
    Ok((status, output, errors))
}

/// What a command wrote.
#[derive(Debug, Default)]
struct Written {
    /// Its beginning.
    kept: Vec<u8>,
    /// Bytes in all.
    total: u64,
}

impl Written {
    /// Reads to the end and keeps `most` bytes.
    async fn read(from: Option<impl AsyncRead + Unpin>, most: usize) -> Result<Self, SourceError> {
        let mut written = Self::default();
        let Some(mut from) = from else { return Ok(written) };
        let mut buffer = vec![0; 8 << 10];
        loop {
            let read = from.read(&mut buffer).await;
            let read = read.map_err(|error| SourceError::NoAnswer(error.to_string()))?;
            if read == 0 {
                return Ok(written);
            }
            let room = most - written.kept.len();
            written.kept.extend_from_slice(&buffer[..read.min(room)]);
            written.total += read as u64;
            if written.total > SOURCE_OUTPUT_BYTES_MAX {
                return Err(SourceError::Output);
            }
        }
    }
}

/// A command and all that it started; ended when this is dropped, unless it was released.
struct Group {
    #[cfg(unix)]
    id: Option<rustix::process::Pid>,
}

impl Group {
    #[cfg(unix)]
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self { id: id.and_then(rustix::process::Pid::from_raw) }
    }

    /// The child alone is ended, by its own drop.
    #[cfg(not(unix))]
    fn of(_: &Child) -> Self {
        Self {}
    }

    /// The command has ended and its id may soon be another's.
    #[cfg(unix)]
    fn release(mut self) {
        self.id = None;
    }

    #[cfg(not(unix))]
    fn release(self) {}
}

#[cfg(unix)]
impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // An error means that none of it is left.
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests;

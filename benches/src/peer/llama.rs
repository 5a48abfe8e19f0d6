//! llama.cpp in a process of its own: its Python package in a virtual environment, driven line by
//! line through a pipe.

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// The version that is installed and compared with.
const PACKAGE: &str = "llama-cpp-python==0.3.36";

/// A running llama.cpp.
pub(crate) struct Llama {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub(crate) version: String,
}

/// One figure.
#[derive(Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Request {
    Prefill {
        tokens: usize,
        seed: u64,
        flash: bool,
    },
    Decode {
        tokens: usize,
        depth: usize,
        seed: u64,
        flash: bool,
    },
    /// So many sequences side by side, each with a tail of its own behind tokens that all share.
    Slots {
        tokens: usize,
        sequences: usize,
        shared: usize,
        tail: usize,
        flash: bool,
    },
}

#[derive(Deserialize)]
struct Hello {
    version: String,
}

#[derive(Deserialize)]
struct Answer {
    tokens_per_second: f64,
}

impl Llama {
    /// Starts it on a GGUF file.
    pub(crate) fn start(
        python: &Path,
        model: &Path,
        threads: usize,
        context: usize,
    ) -> anyhow::Result<Self> {
        let mut child = Command::new(python)
            .args(["-c", include_str!("llama.py")])
            .arg(model)
            .args([threads.to_string(), context.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", python.display()))?;
        let requests = child.stdin.take().context("a pipe to llama.cpp")?;
        let answers = BufReader::new(child.stdout.take().context("a pipe from llama.cpp")?);
        let mut llama = Self { child, requests, answers, version: String::new() };
        llama.version = llama.read::<Hello>()?.version;
        Ok(llama)
    }

    /// Tokens per second of one figure.
    pub(crate) fn ask(&mut self, request: &Request) -> anyhow::Result<f64> {
        writeln!(self.requests, "{}", serde_json::to_string(request)?)?;
        Ok(self.read::<Answer>()?.tokens_per_second)
    }

    fn read<T: for<'a> Deserialize<'a>>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "llama.cpp ended; what it said stands above");
        serde_json::from_str(&line).with_context(|| format!("llama.cpp answered {line:?}"))
    }
}

impl Drop for Llama {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Python with llama-cpp-python, made where there is none.
pub(crate) fn install() -> anyhow::Result<PathBuf> {
    let folder = models::catalogue::cache_folder()?.join("bench").join("llama-cpp");
    let python = folder.join("bin").join("python");
    let has_package = |python: &Path| {
        let check = Command::new(python).args(["-c", "import llama_cpp"]).output();
        check.is_ok_and(|output| output.status.success())
    };
    if has_package(&python) {
        return Ok(python);
    }
    eprintln!("building {PACKAGE} in {} (minutes, once)", folder.display());
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", PACKAGE]))?;
    ensure!(has_package(&python), "{PACKAGE} was installed but does not load");
    Ok(python)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

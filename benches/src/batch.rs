//! `batch`: many sequences at once over the same cached fragments, each in an order of its own; with
//! pages read once for all of them, and once for each; and llama.cpp's slots, which share a prefix
//! only: there all sequences have the fragments in one order.

use crate::{
    chosen::Chosen,
    limits::{self, Limits},
    peer::llama::{self, Llama},
    random_file,
    session::Session,
    shapes::Shape,
};
use anyhow::{Context, anyhow, ensure};
use engine::{
    Composition, Config, Event, FragmentSpec, JoinPolicy, Placement, Priority, Request, Sampling,
    Stats,
};
use models::LoadOptions;
use serde::Serialize;
use std::{
    path::PathBuf,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    chosen: Chosen,
    /// Random weights in the shape of a known model, in the place of a file: for the share of attention,
    /// where none with its heads is at hand. Written to a temporary file.
    #[arg(long, value_enum, conflicts_with = "model", value_name = "SHAPE", ignore_case = true)]
    shape: Option<&'static Shape>,
    /// Layers of such a model.
    #[arg(long, default_value_t = 4, requires = "shape")]
    layers: usize,
    /// Print one line of JSON instead of an indented object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Sequences at once. Repeat for more.
    #[arg(long = "sequences", value_name = "N", default_values_t = [1, 4, 16, 64])]
    sequences: Vec<usize>,
    /// Fragments in every composition.
    #[arg(long, default_value_t = 8)]
    fragments: usize,
    /// Tokens of each.
    #[arg(long, default_value_t = 512)]
    fragment_tokens: usize,
    /// Tokens of every tail; no two are alike.
    #[arg(long, default_value_t = 32)]
    tail_tokens: usize,
    /// Tokens that every sequence generates. The first come while other tails are prefilled: rates
    /// are of the time in which all decode.
    #[arg(long, default_value_t = 64)]
    tokens: usize,
    /// Leave llama.cpp out.
    #[arg(long)]
    no_peer: bool,
    /// A Python that has llama-cpp-python. Without one, a virtual environment is made beside the
    /// model cache and the package is built into it, which takes minutes, once.
    #[arg(long, env = "CENTO_BENCH_PYTHON")]
    python: Option<PathBuf>,
}

/// The printed object.
#[derive(Serialize)]
pub(crate) struct Report {
    model: String,
    threads: usize,
    isa: String,
    kv_dtype: &'static str,
    fragments: usize,
    fragment_tokens: usize,
    tail_tokens: usize,
    limits: Limits,
    batches: Vec<Batch>,
}

/// So many sequences at once.
#[derive(Serialize)]
struct Batch {
    sequences: usize,
    /// Tokens per second of all together.
    tokens_per_second: f64,
    /// The same, of one sequence as it was measured first.
    times_one: f64,
    /// Pages are read once for each sequence.
    unshared_tokens_per_second: f64,
    /// Milliseconds of a step: shared, unshared, and with nothing before the tails.
    step_ms: [f64; 3],
    /// What looking at the fragments takes of a step, unshared over shared.
    attention_ratio: f64,
    /// Of it, the products and sums with the fragments' keys and values, 10^9 per second: shared, and
    /// unshared. What the machine can do of these bounds the ratio where all KV of a layer stays in
    /// its caches.
    attention_gflops: [f64; 2],
    /// KV pages in use with all running, over those of the fragments and the root alone.
    pages_ratio: f64,
    /// Of llama.cpp, the better of flash attention on and off.
    llama_cpp_tokens_per_second: Option<f64>,
    times_llama_cpp: Option<f64>,
}

/// What one batch of sequences gave.
struct Rate {
    tokens_per_second: f64,
    step_ms: f64,
    /// While all ran.
    stats: Stats,
}

/// Loads the model twice, and runs every size of batch on both.
pub(crate) fn measure(args: &Args) -> anyhow::Result<Report> {
    let sizes = [args.fragments, args.fragment_tokens, args.tail_tokens];
    ensure!(!sizes.contains(&0), "--fragments and tokens must be at least 1: {sizes:?}");
    ensure!(args.tokens > 1, "--tokens is {}; it must be at least 2", args.tokens);
    let most = args.sequences.iter().copied().max().unwrap_or(0);
    ensure!(!args.sequences.contains(&0) && most <= 256, "--sequences must be from 1 to 256");
    ensure!(args.layers > 0, "--layers must be at least 1");
    let made = args.shape.map(|shape| random_file::write(shape, args.layers)).transpose()?;
    let path = made.as_ref().map(|file| file.path().to_string_lossy());
    let model = path.as_deref().unwrap_or(&args.chosen.model);
    let threads = args.chosen.threads();
    let config = Config { running_max: most, waiting_max: most, ..Config::default() };
    let bench = |share_reads| {
        let options = LoadOptions { share_reads, ..args.chosen.options() };
        Bench::open(args, Session::open_with(model, &options, config)?)
    };
    let mut batches: Vec<Batch> = Vec::new();
    let (shared, unshared) = (bench(true)?, bench(false)?);
    let mut peer = if args.no_peer { None } else { Some(peer(args, model, threads)?) };
    for &sequences in &args.sequences {
        let once = shared.rate(sequences, &shared.fragments)?;
        let each = unshared.rate(sequences, &unshared.fragments)?;
        let none = shared.rate(sequences, &[])?;
        let llama = peer.as_mut().map(|llama| slots(args, llama, sequences)).transpose()?;
        let looked_at = (sequences * args.fragments * args.fragment_tokens) as f64;
        let gflop = looked_at * shared.session.attention_products as f64 * 2.0 / 1e9;
        let attention_s = |rate: &Rate| (rate.step_ms - none.step_ms) / 1e3;
        let one = batches.first().map_or(once.tokens_per_second, |first| first.tokens_per_second);
        batches.push(Batch {
            sequences,
            tokens_per_second: once.tokens_per_second,
            times_one: once.tokens_per_second / one,
            unshared_tokens_per_second: each.tokens_per_second,
            step_ms: [once.step_ms, each.step_ms, none.step_ms],
            attention_ratio: attention_s(&each) / attention_s(&once),
            attention_gflops: [&once, &each].map(|rate| gflop / attention_s(rate)),
            pages_ratio: pages_used(&once.stats) / shared.pages_held,
            llama_cpp_tokens_per_second: llama,
            times_llama_cpp: llama.map(|llama| once.tokens_per_second / llama),
        });
    }
    Ok(Report {
        model: shared.session.info.name.clone(),
        threads,
        isa: shared.session.info.isa.clone(),
        kv_dtype: args.chosen.kv_dtype.name(),
        fragments: args.fragments,
        fragment_tokens: args.fragment_tokens,
        tail_tokens: args.tail_tokens,
        limits: limits::measure(threads),
        batches,
    })
}

/// llama.cpp on the same file.
fn peer(args: &Args, model: &str, threads: usize) -> anyhow::Result<Llama> {
    let path = models::catalogue::fetch(model, &mut models::catalogue::Quiet)?;
    let python = args.python.clone().map_or_else(llama::install, Ok)?;
    Llama::start(&python, &path, threads, CONTEXT_UNUSED)
}

/// The better of flash attention on and off.
fn slots(args: &Args, llama: &mut Llama, sequences: usize) -> anyhow::Result<f64> {
    let (shared, tail) = (args.fragments * args.fragment_tokens, args.tail_tokens);
    let mut speed = |flash| {
        let tokens = args.tokens;
        let (each, with) = (shared + tail, if flash { "with" } else { "without" });
        // Nothing is shared there: this may take many minutes.
        eprintln!("llama.cpp reads {sequences} prompts of {each} tokens, {with} flash attention");
        llama.ask(&llama::Request::Slots { tokens, sequences, shared, tail, flash })
    };
    Ok(speed(false)?.max(speed(true)?))
}

/// Positions of the contexts that llama.cpp holds for other figures.
const CONTEXT_UNUSED: usize = 256;

/// An order of its own for each of many sequences.
pub(crate) fn reorder<T>(fragments: &mut [T], sequence: usize) {
    let count = fragments.len().max(1);
    fragments.rotate_left(sequence % count);
    if count > 2 {
        fragments.swap(0, 1 + (sequence / count) % (count - 1));
    }
}

fn pages_used(stats: &Stats) -> f64 {
    (stats.pages - stats.pages_free) as f64
}

/// Cached fragments, and an engine to join them.
struct Bench<'a> {
    args: &'a Args,
    session: Session,
    fragments: Vec<Arc<[u32]>>,
    /// Pages of fragments and root.
    pages_held: f64,
}

impl<'a> Bench<'a> {
    fn open(args: &'a Args, session: Session) -> anyhow::Result<Self> {
        let tokens = |i: u64| session.filler((1 << 21) + i, args.fragment_tokens);
        let fragments: Vec<Arc<[u32]>> =
            (0..args.fragments as u64).map(|i| tokens(i).into()).collect();
        for tokens in &fragments {
            let (root, tokens) = (session.root.clone(), tokens.clone());
            let spec = FragmentSpec {
                tenant: "bench".into(),
                root,
                tokens,
                priority: Priority::Normal,
                pin: true,
            };
            session.engine.put_fragment(spec)?;
        }
        let pages_held = pages_used(&session.engine.stats());
        Ok(Self { args, session, fragments, pages_held })
    }

    /// Number `i` of so many sequences: the fragments in an order of its own, and a tail of its own.
    fn request(&self, i: usize, fragments: &[Arc<[u32]>]) -> Request {
        let mut placements: Vec<Placement> =
            fragments.iter().map(|tokens| tokens.clone().into()).collect();
        reorder(&mut placements, i);
        let tail = self.session.filler((1 << 22) + i as u64, self.args.tail_tokens);
        Request {
            tenant: "bench".into(),
            composition: Composition { root: self.session.root.clone(), placements, tail },
            policy: JoinPolicy::Reuse,
            selected: None,
            sampling: Sampling::greedy(),
            stop_tokens: Vec::new(),
            stop_strings: Vec::new(),
            max_tokens: self.args.tokens,
            logprobs: None,
            echo: false,
            priority: Priority::Normal,
            seal: None,
        }
    }

    /// Runs so many sequences at once.
    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    fn rate(&self, sequences: usize, fragments: &[Arc<[u32]>]) -> anyhow::Result<Rate> {
        let (sender, events) = mpsc::channel();
        for i in 0..sequences {
            let sender = sender.clone();
            let sink = move |event| sender.send((i, Instant::now(), event)).is_ok();
            self.session.engine.submit(self.request(i, fragments), Box::new(sink))?;
        }
        drop(sender);
        let mut tokens: Vec<Vec<Instant>> = vec![Vec::new(); sequences];
        let (mut ended, mut stats) = (0, self.session.engine.stats());
        while ended < sequences {
            let event = events.recv_timeout(Duration::from_mins(10));
            match event.context("the engine fell silent")? {
                (i, at, Event::Token { .. }) => {
                    tokens[i].push(at);
                    let now = self.session.engine.stats();
                    if now.running == sequences {
                        stats = now;
                    }
                }
                (_, _, Event::Finished { .. }) => ended += 1,
                (_, _, Event::Failed(error)) => return Err(anyhow!(error)),
                (_, _, _) => {}
            }
        }
        let begin = tokens.iter().filter_map(|at| at.first()).max().context("no token")?;
        let end = tokens.iter().filter_map(|at| at.last()).min().context("no token")?;
        let inside = |at: &&Instant| *at > begin && *at <= end;
        let counts = tokens.iter().map(|at| at.iter().filter(inside).count());
        let (fewest, all) = (counts.clone().min().unwrap_or(0), counts.sum::<usize>());
        ensure!(fewest > 1, "--tokens is {}: too few for all to decode at once", self.args.tokens);
        let seconds = end.duration_since(*begin).as_secs_f64();
        Ok(Rate {
            tokens_per_second: all as f64 / seconds,
            step_ms: seconds * 1e3 * sequences as f64 / all as f64,
            stats,
        })
    }
}

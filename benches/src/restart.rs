//! `restart`: the first token over fragments that a restarted process finds on disk, against the same
//! in memory and against encoding them.
//!
//! Files were just written, so the system has them in memory: what is measured is reading, verifying
//! and placing them, not the disk.

use crate::{
    chosen::Chosen,
    cpu::median,
    session::{Answer, Session},
};
use anyhow::{Context, ensure};
use engine::{Composition, Config, JoinPolicy};
use serde::Serialize;
use std::sync::Arc;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    chosen: Chosen,
    /// Print one line of JSON instead of an indented object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Fragments in the composition.
    #[arg(long, default_value_t = 8)]
    fragments: usize,
    /// Tokens of each.
    #[arg(long, default_value_t = 512)]
    fragment_tokens: usize,
    /// Tokens of the tail.
    #[arg(long, default_value_t = 32)]
    tail_tokens: usize,
    /// Restarts; the median is reported.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// How much longer than in memory the first token may take.
const CEILING: f64 = 2.0;

/// The printed object. Times are milliseconds from submit to the first token.
#[derive(Serialize)]
pub(crate) struct Report {
    model: String,
    threads: usize,
    isa: String,
    kv_dtype: &'static str,
    fragments: usize,
    fragment_tokens: usize,
    tail_tokens: usize,
    /// The fragments are encoded on the way.
    encoded_first_token_ms: f64,
    /// They are in memory.
    warm_first_token_ms: f64,
    /// They are on disk alone, in the first call of a process.
    restarted_first_token_ms: f64,
    /// Bytes of their files.
    file_bytes: u64,
    /// After a restart, over what it takes in memory; what it may be at most.
    ratio: f64,
    ceiling: f64,
    is_met: bool,
    /// How much sooner than encoding.
    sooner: f64,
}

/// Encodes, restarts and joins.
pub(crate) fn measure(args: &Args) -> anyhow::Result<Report> {
    let sizes = [args.runs, args.fragments, args.fragment_tokens, args.tail_tokens];
    ensure!(!sizes.contains(&0), "--runs, --fragments and tokens must be at least 1: {sizes:?}");
    let threads = args.chosen.threads();
    let options = args.chosen.options();
    let folder = tempfile::tempdir().context("a folder for KV")?;
    let open =
        || Session::open_over(&args.chosen.model, &options, Config::default(), folder.path());
    let rows = args.fragments * args.fragment_tokens;

    let first = open()?;
    let encoded = ask(&first, args, 0)?;
    ensure!(encoded.counts.encoded == rows, "{} tokens were encoded", encoded.counts.encoded);
    let (mut warm, mut restarted) = (Vec::new(), Vec::new());
    for run in 1..=args.runs {
        warm.push(ask(&first, args, run)?.timings.first_token_ms);
    }
    first.engine.shutdown(GRACE);
    let figures = first.engine.stats().tier;
    drop(first);
    for run in 1..=args.runs {
        let next = open()?;
        let answer = ask(&next, args, run)?;
        let loaded = next.engine.stats().tokens_loaded as usize;
        ensure!(answer.counts.reused == rows && loaded >= rows, "{loaded} tokens came from disk");
        restarted.push(answer.timings.first_token_ms);
        next.engine.shutdown(GRACE);
    }
    let session = open()?;
    let (warm, restarted) = (median(warm), median(restarted));
    Ok(Report {
        model: session.info.name.clone(),
        threads,
        isa: session.info.isa.clone(),
        kv_dtype: args.chosen.kv_dtype.name(),
        fragments: args.fragments,
        fragment_tokens: args.fragment_tokens,
        tail_tokens: args.tail_tokens,
        encoded_first_token_ms: encoded.timings.first_token_ms,
        warm_first_token_ms: warm,
        restarted_first_token_ms: restarted,
        file_bytes: figures.bytes,
        ratio: restarted / warm,
        ceiling: CEILING,
        is_met: restarted <= CEILING * warm,
        sooner: encoded.timings.first_token_ms / restarted,
    })
}

/// Time for what waits to be written.
const GRACE: std::time::Duration = std::time::Duration::from_mins(1);

/// The first token over all fragments and a tail that is new in every run.
fn ask(session: &Session, args: &Args, run: usize) -> anyhow::Result<Answer> {
    let fragment =
        |i: u64| -> Arc<[u32]> { session.filler((1 << 21) + i, args.fragment_tokens).into() };
    let placements = (0..args.fragments as u64).map(|i| fragment(i).into()).collect();
    let tail = session.filler((1 << 22) + run as u64, args.tail_tokens);
    let composition = Composition { root: session.root.clone(), placements, tail };
    session.generate(composition, JoinPolicy::Reuse, 1)
}

//! `cpu`: what one model does on this machine's CPU, through the engine a user talks to.

use crate::{joined, joined::Joined, limits, machine, session::Session};
use anyhow::ensure;
use engine::{Composition, JoinPolicy};
use models::{KvDtype, LoadOptions};
use serde::Serialize;
use std::collections::BTreeMap;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A catalogue name, a path, or hf:owner/repo/file.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// Print one line of JSON instead of an indented object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Threads; 0 means one per physical core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Repetitions of each figure; the median is reported.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Prompt lengths to prefill, in tokens.
    #[arg(long, value_delimiter = ',', default_value = "512,2048")]
    prefill: Vec<usize>,
    /// Depths to decode at, in tokens.
    #[arg(long, value_delimiter = ',', default_value = "0,1024,4000")]
    decode: Vec<usize>,
    /// Tokens decoded for one figure.
    #[arg(long, default_value_t = 64)]
    decode_tokens: usize,
}

/// The printed object.
#[derive(Serialize)]
pub(crate) struct Report {
    model: String,
    threads: usize,
    isa: String,
    /// Tokens per second by prompt length.
    prefill: BTreeMap<usize, f64>,
    /// Tokens per second by depth.
    decode: BTreeMap<usize, f64>,
    joined: Joined,
    load_s: f64,
    /// Resident memory at the end, its parts beside it.
    rss_mb: f64,
    file_mb: f64,
    /// KV pages in use.
    kv_mb: f64,
    limits: limits::Limits,
    /// Tokens decoded at every depth, folded: shows that the work was done and stayed the same.
    hash: String,
}

/// Runs every figure on one loaded model.
pub(crate) fn measure(args: &Args) -> anyhow::Result<Report> {
    ensure!(args.runs > 0, "--runs is 0; it must be at least 1");
    let threads = if args.threads == 0 { models::physical_cores() } else { args.threads };
    let options = LoadOptions { threads, kv_dtype: KvDtype::F16, ..LoadOptions::default() };
    let session = Session::open(&args.model, &options)?;
    let mut seed = 0;
    let mut fresh = |count| {
        seed += 1;
        session.filler(seed, count)
    };
    let prefill = figures(&args.prefill, args.runs, |length| {
        let answer = session.generate(plain(&session, fresh(length)), JoinPolicy::Recompute, 1)?;
        // The root comes from the cache; the tail is all new.
        Ok(answer.counts.tail as f64 / answer.timings.prefill_ms * 1e3)
    })?;
    let mut outputs = Vec::new();
    let decode = figures(&args.decode, args.runs, |depth| {
        // The same tail each run: only the first one prefills it.
        let tail = session.filler(1 << 20, depth.max(1));
        let composition = plain(&session, tail);
        let answer = session.generate(composition, JoinPolicy::Recompute, args.decode_tokens)?;
        outputs.extend(answer.tokens);
        Ok(answer.timings.decode_tokens_per_second)
    })?;
    let joined = joined::measure(&session, args.runs)?;
    let stats = session.engine.stats();
    Ok(Report {
        model: session.info.name.clone(),
        threads,
        isa: session.info.isa.clone(),
        prefill,
        decode,
        joined,
        load_s: session.load_s,
        rss_mb: machine::rss_bytes()? as f64 / 1e6,
        file_mb: session.info.file_bytes as f64 / 1e6,
        kv_mb: ((stats.pages - stats.pages_free) * session.engine.shape().page_bytes) as f64 / 1e6,
        limits: limits::measure(threads),
        hash: fold(&outputs),
    })
}

/// A composition of root and tail only.
fn plain(session: &Session, tail: Vec<u32>) -> Composition {
    Composition { root: session.root.clone(), placements: Vec::new(), tail }
}

/// The median over `runs` of `figure` at each size.
fn figures(
    sizes: &[usize],
    runs: usize,
    mut figure: impl FnMut(usize) -> anyhow::Result<f64>,
) -> anyhow::Result<BTreeMap<usize, f64>> {
    let mut medians = BTreeMap::new();
    for &size in sizes {
        let values = (0..runs).map(|_| figure(size)).collect::<anyhow::Result<Vec<_>>>()?;
        medians.insert(size, median(values));
    }
    Ok(medians)
}

/// The middle value; the lower one of two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

/// FNV-1a over token ids.
fn fold(tokens: &[u32]) -> String {
    let hash = tokens
        .iter()
        .flat_map(|t| t.to_le_bytes())
        .fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3));
    format!("{hash:016x}")
}

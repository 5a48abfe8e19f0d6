//! `cpu`: what one model does on this machine's CPU, through the engine a user talks to.

use crate::{chosen::Chosen, joined, joined::Joined, limits, machine, session::Session};
use anyhow::ensure;
use serde::Serialize;
use std::collections::BTreeMap;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    chosen: Chosen,
    /// Print one line of JSON instead of an indented object.
    #[arg(long)]
    pub(crate) json: bool,
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
    /// Leave out the first token of joined fragments.
    #[arg(long)]
    no_joined: bool,
}

/// The printed object.
#[derive(Serialize)]
pub(crate) struct Report {
    model: String,
    threads: usize,
    isa: String,
    kv_dtype: &'static str,
    /// Tokens per second by prompt length.
    prefill: BTreeMap<usize, f64>,
    /// Tokens per second by depth.
    decode: BTreeMap<usize, f64>,
    joined: Option<Joined>,
    load_s: f64,
    /// Resident memory at the end, its parts beside it.
    rss_mb: f64,
    file_mb: f64,
    /// Weights as they are held, repacked.
    weights_mb: f64,
    /// KV pages in use.
    kv_mb: f64,
    limits: limits::Limits,
    share_of_limit: Shares,
    /// Tokens decoded at every depth, folded: shows that the work was done and stayed the same.
    hash: String,
}

/// Parts of what the machine allows, by prompt length and by depth.
#[derive(Serialize)]
struct Shares {
    /// Products of the layers' weights, of the limit of 8-bit integer arithmetic.
    prefill: BTreeMap<usize, f64>,
    /// Bytes of weights and of KV that must be read, of the limit of reading.
    decode: BTreeMap<usize, f64>,
}

impl Shares {
    fn new(
        session: &Session,
        limits: &limits::Limits,
        prefill: &BTreeMap<usize, f64>,
        decode: &BTreeMap<usize, f64>,
    ) -> Self {
        let shape = session.engine.shape();
        let kv_bytes = shape.page_bytes / shape.page_rows;
        let prefill = prefill.iter().map(|(&length, speed)| {
            let ops = 2.0 * session.layer_products as f64 * speed;
            (length, ops / 1e9 / limits.int8_gops)
        });
        let decode = decode.iter().map(|(&depth, speed)| {
            let bytes = session.weight_bytes_per_token + depth * kv_bytes;
            (depth, bytes as f64 * speed / 1e9 / limits.read_gbs)
        });
        Self { prefill: prefill.collect(), decode: decode.collect() }
    }
}

/// Runs every figure on one loaded model.
pub(crate) fn measure(args: &Args) -> anyhow::Result<Report> {
    ensure!(args.runs > 0, "--runs is 0; it must be at least 1");
    let threads = args.chosen.threads();
    let options = args.chosen.options();
    let session = Session::open(&args.chosen.model, &options)?;
    let mut seed = 0;
    let prefill = figures(&args.prefill, args.runs, |length| {
        seed += 1;
        session.prefill(seed, length)
    })?;
    let mut outputs = Vec::new();
    let decode = figures(&args.decode, args.runs, |depth| {
        let (speed, tokens) = session.decode(depth, args.decode_tokens)?;
        outputs.extend(tokens);
        Ok(speed)
    })?;
    let joined = if args.no_joined { None } else { Some(joined::measure(&session, args.runs)?) };
    let stats = session.engine.stats();
    let limits = limits::measure(threads);
    Ok(Report {
        share_of_limit: Shares::new(&session, &limits, &prefill, &decode),
        model: session.info.name.clone(),
        threads,
        isa: session.info.isa.clone(),
        kv_dtype: args.chosen.kv_dtype.name(),
        prefill,
        decode,
        joined,
        load_s: session.load_s,
        rss_mb: machine::rss_bytes()? as f64 / 1e6,
        file_mb: session.info.file_bytes as f64 / 1e6,
        weights_mb: session.weight_bytes as f64 / 1e6,
        kv_mb: ((stats.pages - stats.pages_free) * session.engine.shape().page_bytes) as f64 / 1e6,
        limits,
        hash: fold(&outputs),
    })
}

/// The median over `runs` of `figure` at each size.
pub(crate) fn figures(
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

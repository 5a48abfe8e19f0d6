//! A model with random weights: prefill, decode at depth, joined first tokens, and many sequences over
//! the same rows.

use super::desk::{Desk, Rows, Sequence};
use super::record::Record;
use super::torch::{Peer, Sizes};
use super::{Args, Part};
use kernels::KvDtype;
use kernels::cuda::Gpu;
use models::{GpuDecoder, LoadOptions, Model as _, RandomModel};
use serde::Serialize;
use std::time::Instant;

/// What was measured of a model.
#[derive(Serialize)]
pub(super) struct Measured {
    model: String,
    notes: Vec<String>,
    prefill: Vec<Prefill>,
    decode: Vec<Decode>,
    joined: Option<Joined>,
    shared: Option<Shared>,
}

impl Measured {
    fn begin(model: &str, notes: &[String]) -> Self {
        let (prefill, decode) = (Vec::new(), Vec::new());
        let (model, notes) = (model.to_owned(), notes.to_vec());
        Self { model, notes, prefill, decode, joined: None, shared: None }
    }
}

/// A prompt that nothing is known of.
#[derive(Serialize)]
struct Prefill {
    tokens: usize,
    tokens_per_second: f64,
    /// Of the product rate that was measured.
    share_of_products: f64,
    peer_tokens_per_second: Option<f64>,
}

/// One token more for each sequence.
#[derive(Serialize)]
struct Decode {
    batch: usize,
    depth: usize,
    /// None: the KV of so many rows does not fit.
    tokens_per_second: Option<f64>,
    /// Bytes of weights and KV that must be read, of the bandwidth that was measured.
    share_of_copy: Option<f64>,
    peer_tokens_per_second: Option<f64>,
}

/// A first token over cached fragments.
#[derive(Serialize)]
struct Joined {
    fragments: usize,
    tokens_each: usize,
    tail: usize,
    prefill_ms: f64,
    join_ms: f64,
    times_sooner: f64,
}

/// Sequences that look at the same rows, each at an offset of its own.
#[derive(Serialize)]
struct Shared {
    sequences: usize,
    tokens: usize,
    /// A step without them.
    alone_ms: f64,
    /// Reading them once for all, and once for each.
    together_ms: f64,
    each_ms: f64,
    /// What the rows add to a step, each over together.
    times_faster: f64,
}

/// Steps that are timed, and rows that a sequence decodes at most.
const STEPS: usize = 32;
const ROOM: usize = STEPS + super::desk::WARM_STEPS + 1;

/// Rounds of which the best counts, and seconds after which there is no further one.
const ROUNDS: usize = 3;
const ROUND_SECONDS: f64 = 5.0;

/// Measures a model part by part, and saves the record after each number.
pub(super) fn measure(
    gpu: &Gpu,
    name: &str,
    args: &Args,
    (record, peer): (&mut Record, &mut Peer),
) -> anyhow::Result<()> {
    let sizes = match name {
        "8b" => RandomModel::LLAMA_8B,
        "1b" => RandomModel::LLAMA_1B,
        other => anyhow::bail!("--models {other}: 8b and 1b are known"),
    };
    let options = LoadOptions {
        kv_dtype: KvDtype::F16,
        kv_bytes_gpu: Some(args.kv_bytes),
        ..LoadOptions::default()
    };
    let decoder = GpuDecoder::random(gpu, &sizes, &options)?;
    record.report.models.push(Measured::begin(name, decoder.notes()));
    record.save()?;
    let mut desk = Desk::new(decoder);
    peer.load(&Sizes::of(&sizes));
    for part in &args.parts {
        eprintln!("{name}: {part:?}");
        match part {
            Part::Ops => {}
            Part::Prefill => prefills(&mut desk, &args.prompts, (record, peer))?,
            Part::Decode => decodes(&mut desk, args, (record, peer))?,
            Part::Joined => record.model().joined = joined(&mut desk)?,
            Part::Shared => record.model().shared = shared(&mut desk)?,
        }
        record.save()?;
    }
    Ok(())
}

fn prefills(
    desk: &mut Desk,
    prompts: &[usize],
    (record, peer): (&mut Record, &mut Peer),
) -> anyhow::Result<()> {
    for &tokens in prompts {
        let (seconds, other) = interleaved(|| one_prefill(desk, tokens), || peer.prefill(tokens))?;
        let Some(seconds) = seconds else { continue };
        let products = 2.0 * desk.model.layer_products() as f64 * tokens as f64;
        let share_of_products = products / seconds / 1e12 / record.report.limits.bf16_tflops;
        record.model().prefill.push(Prefill {
            tokens,
            tokens_per_second: tokens as f64 / seconds,
            share_of_products,
            peer_tokens_per_second: other.map(|seconds| tokens as f64 / seconds),
        });
        record.save()?;
    }
    Ok(())
}

fn decodes(
    desk: &mut Desk,
    args: &Args,
    (record, peer): (&mut Record, &mut Peer),
) -> anyhow::Result<()> {
    let sizes = args.batches.iter().flat_map(|&batch| args.depths.iter().map(move |&d| (batch, d)));
    for (batch, depth) in sizes {
        let (seconds, other) =
            interleaved(|| one_decode(desk, batch, depth), || peer.decode(batch, depth))?;
        let row_bytes = desk.model.shape().row_bytes;
        let bytes = desk.model.weight_bytes_per_token() + batch * depth * row_bytes;
        let copy_gbs = record.report.limits.copy_gbs;
        let rate = |seconds: f64| batch as f64 / seconds;
        record.model().decode.push(Decode {
            batch,
            depth,
            tokens_per_second: seconds.map(rate),
            share_of_copy: seconds.map(|s| bytes as f64 / s / 1e9 / copy_gbs),
            peer_tokens_per_second: other.map(rate),
        });
        record.save()?;
    }
    Ok(())
}

/// The best of some rounds of each, one after the other in turn; none where one cannot.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn interleaved(
    mut ours: impl FnMut() -> anyhow::Result<Option<f64>>,
    mut theirs: impl FnMut() -> Option<f64>,
) -> anyhow::Result<(Option<f64>, Option<f64>)> {
    let best = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let (mut our, mut their) = (None, None);
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        our = best(our, ours()?);
        their = best(their, theirs());
        if begun.elapsed().as_secs_f64() > ROUND_SECONDS {
            break;
        }
    }
    Ok((our, their))
}

fn one_prefill(desk: &mut Desk, tokens: usize) -> anyhow::Result<Option<f64>> {
    desk.clear();
    let Some(mut own) = desk.blank(tokens, 0) else { return Ok(None) };
    desk.prefill(&mut own, tokens, &[]).map(Some)
}

/// Seconds of a step; none when the rows do not fit.
fn one_decode(desk: &mut Desk, batch: usize, depth: usize) -> anyhow::Result<Option<f64>> {
    desk.clear();
    let mut sequences = Vec::new();
    for _ in 0..batch {
        let Some(mut own) = desk.blank(depth + ROOM, 0) else { return Ok(None) };
        own.count = depth;
        sequences.push(Sequence { seen: vec![own] });
    }
    desk.decode(&mut sequences, STEPS).map(Some)
}

fn joined(desk: &mut Desk) -> anyhow::Result<Option<Joined>> {
    let (fragments, tokens_each, tail) = (8, 4096, 32);
    let (mut prefilled, mut joined) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        let all = fragments * tokens_each + tail;
        let Some(seconds) = one_prefill(desk, all)? else { return Ok(None) };
        prefilled = prefilled.min(seconds);
        desk.clear();
        let mut cached = Vec::new();
        for number in 0..fragments {
            let Some(mut rows) = desk.blank(tokens_each, 0) else { return Ok(None) };
            rows.count = tokens_each;
            cached.push(rows.placed(number * tokens_each));
        }
        let Some(mut own) = desk.blank(tail, fragments * tokens_each) else { return Ok(None) };
        let seen: Vec<&Rows> = cached.iter().collect();
        joined = joined.min(desk.prefill(&mut own, tail, &seen)?);
        if prefilled > ROUND_SECONDS {
            break;
        }
    }
    let (prefill_ms, join_ms) = (prefilled * 1e3, joined * 1e3);
    let times_sooner = prefilled / joined;
    Ok(Some(Joined { fragments, tokens_each, tail, prefill_ms, join_ms, times_sooner }))
}

fn shared(desk: &mut Desk) -> anyhow::Result<Option<Shared>> {
    let (sequences, tokens) = (64, 16_384);
    let step = |desk: &mut Desk, rows: usize, shares: bool| -> anyhow::Result<Option<f64>> {
        desk.clear();
        desk.model.share_reads(shares);
        let Some(mut common) = desk.blank(tokens, 0) else { return Ok(None) };
        common.count = rows;
        let mut all = Vec::new();
        for number in 0..sequences {
            // No two at the same offset.
            let common = common.placed(number * 17);
            let Some(own) = desk.blank(ROOM, common.start + tokens) else { return Ok(None) };
            let seen = if rows > 0 { vec![common, own] } else { vec![own] };
            all.push(Sequence { seen });
        }
        desk.decode(&mut all, STEPS).map(Some)
    };
    let alone = step(desk, 0, true)?;
    let together = step(desk, tokens, true)?;
    let each = step(desk, tokens, false)?;
    desk.model.share_reads(true);
    let (Some(alone), Some(together), Some(each)) = (alone, together, each) else {
        return Ok(None);
    };
    let [alone_ms, together_ms, each_ms] = [alone, together, each].map(|seconds| seconds * 1e3);
    let times_faster = (each - alone) / (together - alone);
    Ok(Some(Shared { sequences, tokens, alone_ms, together_ms, each_ms, times_faster }))
}

//! A model with random weights: prefill, decode at depth, joined first tokens, and many sequences over
//! the same rows.

use super::desk::{Desk, Rows, Sequence};
use super::limits::Limits;
use super::torch::{Peer, Sizes};
use kernels::KvDtype;
use kernels::cuda::Gpu;
use models::{GpuDecoder, LoadOptions, Model as _, RandomModel};
use serde::Serialize;

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

/// Prompts.
const PREFILLS: [usize; 3] = [512, 4096, 32_768];
/// Sequences, and rows before each.
const BATCHES: [usize; 3] = [1, 16, 64];
const DEPTHS: [usize; 3] = [0, 4096, 32_768];
/// Steps that are timed, and rows that a sequence decodes at most.
const STEPS: usize = 32;
const ROOM: usize = STEPS + super::desk::WARM_STEPS + 1;

pub(super) fn measure(
    gpu: &Gpu,
    name: &str,
    kv_bytes: usize,
    (limits, peer): (&Limits, &mut Peer),
) -> anyhow::Result<Measured> {
    let sizes = match name {
        "8b" => RandomModel::LLAMA_8B,
        "1b" => RandomModel::LLAMA_1B,
        other => anyhow::bail!("--models {other}: 8b and 1b are known"),
    };
    let options = LoadOptions {
        kv_dtype: KvDtype::F16,
        kv_bytes_gpu: Some(kv_bytes),
        ..LoadOptions::default()
    };
    let decoder = GpuDecoder::random(gpu, &sizes, &options)?;
    let notes = decoder.notes().to_vec();
    let mut desk = Desk::new(decoder);
    peer.load(&Sizes::of(&sizes));
    let mut prefill = Vec::new();
    for tokens in PREFILLS {
        let (seconds, other) =
            interleaved(|| one_prefill(&mut desk, tokens), || peer.prefill(tokens))?;
        let Some(seconds) = seconds else { continue };
        let products = 2.0 * desk.model.layer_products() as f64 * tokens as f64;
        prefill.push(Prefill {
            tokens,
            tokens_per_second: tokens as f64 / seconds,
            share_of_products: products / seconds / 1e12 / limits.bf16_tflops,
            peer_tokens_per_second: other.map(|seconds| tokens as f64 / seconds),
        });
    }
    let mut decode = Vec::new();
    for (batch, depth) in BATCHES.into_iter().flat_map(|b| DEPTHS.map(|depth| (b, depth))) {
        let (seconds, other) =
            interleaved(|| one_decode(&mut desk, batch, depth), || peer.decode(batch, depth))?;
        let shape = desk.model.shape();
        let bytes = desk.model.weight_bytes_per_token() + batch * depth * shape.row_bytes;
        let rate = |seconds: f64| batch as f64 / seconds;
        decode.push(Decode {
            batch,
            depth,
            tokens_per_second: seconds.map(rate),
            share_of_copy: seconds.map(|s| bytes as f64 / s / 1e9 / limits.copy_gbs),
            peer_tokens_per_second: other.map(rate),
        });
    }
    let (joined, shared) = (joined(&mut desk)?, shared(&mut desk)?);
    Ok(Measured { model: name.to_owned(), notes, prefill, decode, joined, shared })
}

/// The best of three rounds of each, one after the other in turn; none where one cannot.
fn interleaved(
    mut ours: impl FnMut() -> anyhow::Result<Option<f64>>,
    mut theirs: impl FnMut() -> Option<f64>,
) -> anyhow::Result<(Option<f64>, Option<f64>)> {
    let best = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let (mut our, mut their) = (None, None);
    for _ in 0..3 {
        our = best(our, ours()?);
        their = best(their, theirs());
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
    for _ in 0..3 {
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

//! The catalogue's models against an independent implementation in f32 over the same weights.
//!
//! Fetches the models through the catalogue. Tolerances: those
//! that rounding of activations to 8 bits needs, measured on llama.cpp with the same files.

use crate::desk::{Desk, Written, log_softmax, log_sum_exp};
use models::catalogue::{Quiet, fetch};
use models::{Decoder, GpuDecoder, Isa, KvDtype, LoadOptions, Model, TokenId};
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Held by the test that runs: a model's threads spin, and those of two wait for each other.
static MACHINE: Mutex<()> = Mutex::new(());

/// Predicted tokens of a long prompt.
const LONG: usize = 40;

/// One prompt.
#[derive(Deserialize)]
struct Golden {
    ids: Vec<TokenId>,
    /// Predicted tokens.
    n: usize,
    nll_sum: f64,
    /// After the last id.
    top10: Vec<(usize, f64)>,
    /// Greedy decoding; empty for long prompts.
    greedy24: Vec<TokenId>,
}

/// What differs at most, over the prompts of a model.
#[derive(Debug, Default)]
struct Worst {
    nll_long: f64,
    nll_short: f64,
    top10: f64,
    greedy_margin: f64,
}

#[test]
fn smollm2_135m() {
    check("smollm2-135m", KvDtype::F16, None);
}

/// Short prompts, and what follows them: long ones differ by more of the same. Scalar code would take
/// minutes; the tiny models run on it. The widest set is the default.
#[test]
fn smollm2_135m_with_every_other_vector_instruction_set() {
    for isa in Isa::available().filter(|&isa| isa != Isa::Scalar && isa != Isa::best()) {
        check("smollm2-135m", KvDtype::F16, Some(isa));
    }
}

#[test]
fn gemma_3_270m() {
    check("gemma-3-270m", KvDtype::F16, None);
}

#[test]
fn qwen2_5_coder_0_5b() {
    check("qwen2.5-coder-0.5b", KvDtype::F16, None);
}

/// Codes of 8 bits in the cache cost no more likelihood than the tolerance of 8-bit activations, and
/// single log-probabilities half as much again.
#[test]
fn int8_keys_and_values() {
    for name in ["smollm2-135m", "gemma-3-270m", "qwen2.5-coder-0.5b"] {
        check(name, KvDtype::Int8, None);
    }
}

fn check(name: &str, kv_dtype: KvDtype, isa: Option<Isa>) {
    let _running = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let path = fetch(name, &mut Quiet).expect("a model of the catalogue");
    let options = LoadOptions { kv_dtype, isa, ..LoadOptions::default() };
    let (decoder, _) = Decoder::load(&path, &options, &[0; 32]).unwrap();
    compare(name, kv_dtype, decoder, if isa.is_none() { usize::MAX } else { LONG });
}

/// The same weights as they are dequantized, in bf16 or as they lie in the file, and activations in
/// bf16: nearer than activations of 8 bits are, so the tolerances are those.
#[test]
fn models_on_a_gpu() {
    let gpu = kernels::case::gpu();
    if gpu.is_imagined() {
        return;
    }
    for name in ["smollm2-135m", "gemma-3-270m", "qwen2.5-coder-0.5b"] {
        let path = fetch(name, &mut Quiet).expect("a model of the catalogue");
        for kv_dtype in [KvDtype::F16, KvDtype::Int8] {
            let kv_bytes_gpu = Some(1 << 30);
            let options = LoadOptions { kv_dtype, kv_bytes_gpu, ..LoadOptions::default() };
            let (decoder, info) = GpuDecoder::load(&gpu, &path, &options, &[0; 32]).unwrap();
            println!("{}: {:?}", info.device, info.notes);
            compare(name, kv_dtype, decoder, usize::MAX);
        }
    }
}

/// Of the prompts, those that predict fewer tokens than so many.
fn compare<M: Model>(name: &str, kv_dtype: KvDtype, decoder: M, below: usize) {
    let text = std::fs::read_to_string(
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/golden/{name}.json")),
    )
    .unwrap();
    let prompts: Vec<Golden> = serde_json::from_str(&text).unwrap();
    let mut worst = Worst::default();
    let mut desk = Desk::new(decoder);
    for (index, golden) in prompts.iter().enumerate().filter(|(_, golden)| golden.n < below) {
        prompt(&mut desk, golden, &mut worst, &format!("{name}, prompt {index}"));
    }
    println!("{name}, {kv_dtype:?}: {worst:.4?}");
    assert!(worst.nll_long < 0.012, "{name}: nll per token of the long prompt: {worst:?}");
    assert!(worst.nll_short < 0.06, "{name}: nll per token of short prompts: {worst:?}");
    let top10 = if kv_dtype == KvDtype::Int8 { 0.6 } else { 0.4 };
    assert!(worst.top10 < top10, "{name}: log-probabilities of the likeliest: {worst:?}");
    assert!(worst.greedy_margin < 0.75, "{name}: another greedy token: {worst:?}");
}

fn prompt<M: Model>(desk: &mut Desk<M>, golden: &Golden, worst: &mut Worst, case: &str) {
    let vocab = desk.model.shape().vocab;
    let chunk = desk.model.shape().logits_rows_max.min(desk.model.shape().batch_rows_max);
    let (mut nll, mut last, mut next) = (0.0, Vec::new(), golden.ids[1..].iter());
    let written = desk.write_each(&golden.ids, 0, &[], chunk, |logits| {
        for row in logits.chunks(vocab) {
            match next.next() {
                Some(&token) => nll += log_sum_exp(row) - f64::from(row[token as usize]),
                None => last = log_softmax(row),
            }
        }
    });
    let error = (nll - golden.nll_sum).abs() / golden.n as f64;
    let kept = if golden.n < LONG { &mut worst.nll_short } else { &mut worst.nll_long };
    *kept = kept.max(error);

    for &(token, want) in golden.top10.iter().filter(|(_, want)| *want > -6.0) {
        worst.top10 = worst.top10.max((last[token] - want).abs());
    }
    if golden.top10[0].1 - golden.top10[1].1 >= 0.75 {
        assert_eq!(top(&last), golden.top10[0].0, "{case}: the likeliest token");
    }

    // Equal up to the first place where the two candidates lie close together.
    let mut row = last;
    let mut runs = vec![written];
    for &want in &golden.greedy24 {
        let got = top(&row);
        if got != want as usize {
            worst.greedy_margin = worst.greedy_margin.max(row[got] - row[want as usize]);
            return;
        }
        let seen: Vec<_> = runs.iter().collect();
        let end = runs.last().map_or(0, Written::end);
        let (next, logits) = desk.write(&[want], end, &seen, 1);
        runs.push(next);
        row = log_softmax(&logits);
    }
}

fn top(row: &[f64]) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap()
}

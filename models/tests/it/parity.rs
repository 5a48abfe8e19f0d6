//! The same log-probabilities as an independent implementation, for every architecture, in f32.

use crate::desk::{Desk, TINY, load, load_at, load_on, log_softmax, options, rounded, tiny};
use kernels::case::gpu;
use models::{Isa, LoadOptions, Model};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What PyTorch says about one sequence of tokens.
#[derive(Deserialize)]
pub(crate) struct Golden {
    pub(crate) ids: Vec<u32>,
    /// Log-probability of `ids[i + 1]` after `ids[..=i]`.
    pub(crate) token_logprobs: Vec<f64>,
    /// Whole rows of log-probabilities.
    rows: BTreeMap<usize, Vec<f64>>,
    top5_last: Vec<(usize, f64)>,
}

pub(crate) fn golden(arch: &str) -> Golden {
    let text = std::fs::read_to_string(tiny(arch).join("golden.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn check(arch: &str, isa: Isa) {
    let mut desk = Desk::new(load(arch, &LoadOptions { isa: Some(isa), ..options() }));
    let worst = worst(arch, &mut desk, usize::MAX);
    println!("{arch}, {isa}: largest difference {worst:.2e}");
    assert!(worst < 2e-3, "{arch}, {isa}: {worst}");
}

/// Largest difference from the golden log-probabilities, forwarding `chunk` rows at a time.
fn worst<M: Model>(arch: &str, desk: &mut Desk<M>, chunk: usize) -> f64 {
    let golden = golden(arch);
    let vocab = desk.model.shape().vocab;
    let (_, logits) = desk.write(&golden.ids, 0, &[], chunk);
    let rows: Vec<_> = logits.chunks(vocab).map(log_softmax).collect();
    let mut worst = 0.0_f64;
    let mut compare = |row: usize, token: usize, want: f64| {
        worst = worst.max((rows[row][token] - want).abs());
    };
    for (row, want) in golden.token_logprobs.iter().enumerate() {
        compare(row, golden.ids[row + 1] as usize, *want);
    }
    for (&row, all) in &golden.rows {
        assert_eq!(all.len(), vocab, "{arch}: a whole row");
        for (token, want) in all.iter().enumerate() {
            compare(row, token, *want);
        }
    }
    for &(token, want) in &golden.top5_last {
        compare(golden.ids.len() - 1, token, want);
    }
    worst
}

/// Few rows meet the weights as they are, in f32; many their nearest bf16, and what that costs a CPU
/// says.
#[test]
fn every_architecture_gives_the_golden_log_probabilities_on_a_gpu() {
    let gpu = gpu();
    for arch in TINY {
        let mut nearest = Desk::new(load_at(rounded(arch).path(), &options()));
        let nearest = worst(arch, &mut nearest, usize::MAX);
        for (chunk, tolerance) in [(8, 2e-3), (usize::MAX, nearest + 2e-3)] {
            let options = LoadOptions { fine_activations: true, ..options() };
            let mut desk = Desk::new(load_on(&gpu, arch, &options));
            let worst = worst(arch, &mut desk, chunk);
            if gpu.is_imagined() {
                continue;
            }
            println!("{arch}, {gpu:?}, {chunk} rows: largest difference {worst:.2e}");
            assert!(worst < tolerance, "{arch}, {chunk} rows: {worst}");
        }
    }
}

#[test]
fn every_architecture_gives_the_golden_log_probabilities_with_every_instruction_set() {
    for isa in Isa::available() {
        for arch in TINY {
            check(arch, isa);
        }
    }
}

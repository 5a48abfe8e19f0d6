//! The same log-probabilities as an independent implementation, for every architecture, in f32.

use crate::desk::{Desk, TINY, load, log_softmax, options, tiny};
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
    let golden = golden(arch);
    let mut desk = Desk::new(load(arch, &LoadOptions { isa: Some(isa), ..options() }));
    let vocab = desk.model.shape().vocab;
    let (_, logits) = desk.write(&golden.ids, 0, &[], usize::MAX);
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
    println!("{arch}, {isa}: largest difference {worst:.2e}");
    assert!(worst < 2e-3, "{arch}, {isa}: {worst}");
}

#[test]
fn every_architecture_gives_the_golden_log_probabilities_with_every_instruction_set() {
    for isa in Isa::available() {
        for arch in TINY {
            check(arch, isa);
        }
    }
}

//! Joins against values from an independent implementation, through the HTTP API.
//!
//! `data/golden/join-*.json`: token ids of compositions, and for each policy the log-probability
//! of every tail token and the best ten for the token after the tail.

use crate::{harness::call_json, served};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Case {
    root: Vec<u32>,
    fragments: Vec<Vec<u32>>,
    tail: Vec<u32>,
    results: BTreeMap<String, Golden>,
}

#[derive(Deserialize)]
struct Golden {
    tail_logprobs: Vec<f64>,
}

#[tokio::test]
async fn smollm2() {
    check("smollm2-135m", include_str!("../data/golden/join-smollm2-135m.json"), 0.10).await;
}

#[tokio::test]
async fn gemma3() {
    check("gemma-3-270m", include_str!("../data/golden/join-gemma-3-270m.json"), 0.13).await;
}

#[tokio::test]
async fn qwen25() {
    let golden = include_str!("../data/golden/join-qwen2.5-coder-0.5b.json");
    check("qwen2.5-coder-0.5b", golden, 0.07).await;
}

/// Every case within `tolerance` (mean |difference| over its tail; llama.cpp's own worst are 0.070,
/// 0.096 and 0.048), and over the cases each policy nearest to its own golden.
async fn check(model: &str, golden: &str, tolerance: f64) {
    let cases: Vec<Case> = serde_json::from_str(golden).expect("golden values");
    let server = served::model(model);
    for policy in ["recompute", "reuse"] {
        let mut distance = BTreeMap::<&str, f64>::new();
        for (index, case) in cases.iter().enumerate() {
            let result = score(&server, case, policy).await;
            let exact = result["join"]["exact"].as_bool().expect("exact");
            assert_eq!(exact, policy == "recompute", "{model} case {index}: {result}");
            let got = tail_logprobs(&result);
            for (other, golden) in &case.results {
                let mean = mean_difference(&got, &golden.tail_logprobs);
                *distance.entry(other).or_default() += mean / cases.len() as f64;
                if other == policy {
                    assert!(
                        mean <= tolerance,
                        "{model} case {index} {policy}: {mean} > {tolerance}"
                    );
                }
            }
        }
        let nearest = distance.iter().min_by(|a, b| a.1.total_cmp(b.1)).map(|(name, _)| *name);
        assert_eq!(nearest, Some(policy), "{model}: distances {distance:?}");
    }
}

async fn score(app: &axum::Router, case: &Case, policy: &str) -> Value {
    let compose: Vec<_> = case.fragments.iter().map(|tokens| json!({ "tokens": tokens })).collect();
    let body = json!({
        "root": {"tokens": case.root},
        "compose": compose,
        "tail": [{"tokens": case.tail}],
        "join": {"policy": policy},
        "max_tokens": 0,
        "echo": true,
        "logprobs": 10,
    });
    call_json(app, "POST /v1/generate", body).await.expect(200)
}

fn tail_logprobs(result: &Value) -> Vec<f64> {
    let entries = result["tail_logprobs"].as_array().expect("tail_logprobs");
    entries.iter().map(|entry| entry["logprob"].as_f64().expect("a number")).collect()
}

fn mean_difference(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len(), "one score for each tail token from the second on");
    got.iter().zip(want).map(|(g, w)| (g - w).abs()).sum::<f64>() / want.len() as f64
}

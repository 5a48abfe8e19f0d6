//! The engine over real decoders: random tiny models of every architecture, and SmolLM2.

use engine::{
    Clock, Composition, Config, Engine, Event, FragmentId, FragmentSpec, JoinPolicy, Request,
    Sampling, TokenLogprob,
    gates::{self, Bound, Sample},
};
use models::{Decoder, KvDtype, LoadOptions, TokenId, catalogue};
use std::{
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

const TINY: [&str; 6] = ["llama", "llama-rope3", "mistral", "qwen2", "qwen3", "gemma3"];
/// f32 weights and KV: what another order of sums may change in a log-probability.
const ROUNDING: f32 = 1e-3;
const ROOT: [TokenId; 3] = [1, 17, 40];
const TAIL: [TokenId; 4] = [90, 3, 77, 201];

struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

fn tiny(arch: &str, page_rows: usize) -> Decoder {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/data/tiny").join(arch);
    let options = LoadOptions {
        threads: 1,
        kv_dtype: KvDtype::F32,
        kv_bytes: 16 << 20,
        page_rows,
        ..LoadOptions::default()
    };
    Decoder::load(&folder, &options, &[0; 32]).unwrap().0
}

fn engine(arch: &str, page_rows: usize) -> Engine {
    let decoder = Box::new(tiny(arch, page_rows));
    Engine::start(decoder, None, Config::default(), Arc::new(Still))
}

/// Scores of the tail, and the likeliest tokens after it.
fn score(
    engine: &Engine,
    root: &[TokenId],
    placements: &[&[TokenId]],
    policy: JoinPolicy,
) -> (Vec<TokenLogprob>, Vec<(TokenId, f32)>) {
    let (sender, events) = mpsc::channel();
    let placements = placements.iter().map(|&tokens| tokens.into()).collect();
    let composition = Composition { root: root.into(), placements, tail: TAIL.to_vec() };
    let request = Request {
        tenant: "test".into(),
        composition,
        policy,
        selected: None,
        sampling: Sampling::greedy(),
        stop_tokens: Vec::new(),
        stop_strings: Vec::new(),
        max_tokens: 0,
        logprobs: Some(5),
        echo: true,
    };
    engine.submit(request, Box::new(move |event| sender.send(event).is_ok())).unwrap();
    match events.recv_timeout(Duration::from_mins(1)).unwrap() {
        Event::Scored { tail, next_top } => (tail, next_top),
        other => panic!("scores come first: {other:?}"),
    }
}

/// All ways to cut `tokens` into one to three parts.
fn cuts(tokens: &[TokenId]) -> Vec<Vec<&[TokenId]>> {
    let n = tokens.len();
    let mut all = vec![vec![tokens]];
    for a in 1..n {
        all.push(vec![&tokens[..a], &tokens[a..]]);
        all.extend((a + 1..n).map(|b| vec![&tokens[..a], &tokens[a..b], &tokens[b..]]));
    }
    all
}

/// All orders of up to three parts.
fn orders<'a>(parts: &[&'a [TokenId]]) -> Vec<Vec<&'a [TokenId]>> {
    match *parts {
        [a, b] => vec![vec![a, b], vec![b, a]],
        [a, b, c] => [[a, b, c], [a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]]
            .map(|order| order.to_vec())
            .to_vec(),
        _ => vec![parts.to_vec()],
    }
}

#[test]
fn the_gates_hold_on_every_architecture() {
    let part = |from: TokenId, count| (0..count).map(|i| (from + 37 * i) % 256).collect::<Vec<_>>();
    let sample = Sample {
        root: ROOT.to_vec(),
        // Longer than the tiny models' window of 32 when put together.
        fragments: [part(5, 13), part(71, 20), part(133, 6)],
        tail: part(222, 9),
    };
    for arch in TINY {
        for page_rows in [1, 2, 3, 4, 32] {
            let mut decoder = tiny(arch, page_rows);
            for gate in gates::run(&mut decoder, &sample, Bound::Largest(ROUNDING)) {
                assert!(gate.is_open(), "{arch}, pages of {page_rows}: {gate:?}");
            }
        }
    }
}

#[test]
fn the_gates_hold_on_smollm2() {
    let path = catalogue::fetch("smollm2-135m", &mut catalogue::Quiet).unwrap();
    let loaded = models::load(&path, &LoadOptions::default()).unwrap();
    let part = |text| loaded.turns.part(None, text).unwrap();
    let sample = Sample {
        root: loaded.turns.default_root(),
        fragments: [
            part("Bread rises overnight in a cool kitchen.\n"),
            part("The oven is lit before dawn, and the first loaves are out by six.\n"),
            part("On Mondays nobody bakes.\n"),
        ],
        tail: part("Asked when the bread is ready, the baker says:"),
    };
    let mut decoder = loaded.decoder;
    for gate in gates::run(&mut decoder, &sample, Bound::Divergence(0.02)) {
        assert!(gate.is_open(), "{gate:?}");
    }
}

#[test]
fn recompute_is_plain_concatenation_for_all_small_cuts_and_orders() {
    let tokens = [9, 130, 9, 55, 240, 18];
    for arch in TINY {
        for page_rows in 1..=4 {
            let (joining, plain) = (engine(arch, page_rows), engine(arch, page_rows));
            for parts in cuts(&tokens).iter().flat_map(|parts| orders(parts)) {
                let got = score(&joining, &ROOT, &parts, JoinPolicy::Recompute);
                let whole: Vec<_> = ROOT.into_iter().chain(parts.concat()).collect();
                let want = score(&plain, &whole, &[], JoinPolicy::Recompute);
                assert_eq!(got, want, "{arch}, pages of {page_rows}, {parts:?}: not to the bit");
            }
        }
    }
}

#[test]
fn one_fragment_under_reuse_is_recompute() {
    for arch in TINY {
        for page_rows in [1, 3, 32] {
            let engine = engine(arch, page_rows);
            for length in 1..=40 {
                let fragment: Vec<TokenId> = (0..length).map(|i| (length + 29 * i) % 256).collect();
                let reused = score(&engine, &ROOT, &[&fragment], JoinPolicy::Reuse).0;
                let exact = score(&engine, &ROOT, &[&fragment], JoinPolicy::Recompute).0;
                for (reused, exact) in reused.iter().zip(&exact) {
                    let error = (reused.logprob - exact.logprob).abs();
                    assert!(error < ROUNDING, "{arch}, pages of {page_rows}, {length}: {error}");
                }
            }
        }
    }
}

fn put(engine: &Engine, tokens: &[TokenId]) -> (FragmentId, [u8; 32]) {
    let (root, tokens) = (ROOT.into(), tokens.into());
    let spec = FragmentSpec { tenant: "test".into(), root, tokens, pin: false };
    let id = engine.put_fragment(spec).unwrap().id;
    (id, engine.fragment("test", id, true).unwrap().digest.unwrap())
}

#[test]
fn a_dropped_fragment_leaves_no_trace() {
    let texts: [Vec<TokenId>; 3] =
        [(10..31).collect(), (40..47).rev().collect(), (100..139).collect()];
    let [a, b, c] = [&texts[0][..], &texts[1], &texts[2]];
    for arch in TINY {
        for order in orders(&[a, b, c]) {
            let seeing = engine(arch, 4);
            let held = order.iter().map(|tokens| (*tokens, put(&seeing, tokens)));
            let held: Vec<_> = held.collect();
            score(&seeing, &ROOT, &order, JoinPolicy::Reuse);
            let kept: Vec<_> = order.iter().copied().filter(|tokens| *tokens != b).collect();
            let dropped = held.iter().find(|(tokens, _)| *tokens == b).unwrap().1.0;
            seeing.drop_fragment("test", dropped).unwrap();
            let after = score(&seeing, &ROOT, &kept, JoinPolicy::Reuse);

            let fresh = engine(arch, 4);
            for tokens in kept.iter().rev() {
                let before = held.iter().find(|(held, _)| held == tokens).unwrap().1;
                assert_eq!(put(&seeing, tokens), before, "{arch}: the same bytes after the drop");
                assert_eq!(put(&fresh, tokens), before, "{arch}: as if the other never was");
            }
            assert_eq!(after, score(&fresh, &ROOT, &kept, JoinPolicy::Reuse), "{arch}: logits");
        }
    }
}

//! The engine over real decoders: random tiny models of every architecture, and SmolLM2.

use engine::{
    Clock, Composition, Config, Engine, Event, FragmentId, FragmentSpec, JoinPolicy, Priority,
    Request, Sampling, TokenLogprob,
    gates::{self, Bound, Promise, Sample},
};
use kernels::{PageId, RowAddr, Run, Span};
use models::{Batch, Decoder, GpuDecoder, KvDtype, LoadOptions, Model as _, TokenId, catalogue};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};

const TINY: [&str; 6] = ["llama", "llama-rope3", "mistral", "qwen2", "qwen3", "gemma3"];
/// f32 weights and KV: what another order of sums may change in a log-probability.
const ROUNDING: f32 = 1e-3;
pub(crate) const ROOT: [TokenId; 3] = [1, 17, 40];
const TAIL: [TokenId; 4] = [90, 3, 77, 201];

pub(crate) struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

pub(crate) fn tiny(arch: &str, page_rows: usize) -> Decoder {
    tiny_with(arch, page_rows, 16 << 20)
}

/// The same with so much memory for KV.
pub(crate) fn tiny_with(arch: &str, page_rows: usize, kv_bytes: usize) -> Decoder {
    let options = LoadOptions {
        threads: 1,
        kv_dtype: KvDtype::F32,
        kv_bytes,
        page_rows,
        ..LoadOptions::default()
    };
    Decoder::load(&tiny_folder(arch), &options, &[0; 32]).unwrap().0
}

fn tiny_folder(arch: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/data/tiny").join(arch)
}

fn engine(arch: &str, page_rows: usize) -> Engine {
    let decoder = Box::new(tiny(arch, page_rows));
    Engine::start(decoder, None, Config::default(), Arc::new(Still))
}

/// Scores of the tail, and the likeliest tokens after it.
pub(crate) fn score(
    engine: &Engine,
    root: &[TokenId],
    placements: &[&[TokenId]],
    policy: JoinPolicy,
) -> (Vec<TokenLogprob>, Vec<(TokenId, f32)>) {
    score_with(engine, root, placements, policy, None)
}

/// The same with the rows to compute again given.
fn score_with(
    engine: &Engine,
    root: &[TokenId],
    placements: &[&[TokenId]],
    policy: JoinPolicy,
    selected: Option<&[u32]>,
) -> (Vec<TokenLogprob>, Vec<(TokenId, f32)>) {
    let (sender, events) = mpsc::channel();
    let placements =
        placements.iter().map(|&tokens| Arc::<[TokenId]>::from(tokens).into()).collect();
    let composition = Composition { root: root.into(), placements, tail: TAIL.to_vec() };
    let request = Request {
        tenant: "test".into(),
        composition,
        policy,
        selected: selected.map(Arc::from),
        sampling: Sampling::greedy(),
        stop_tokens: Vec::new(),
        stop_strings: Vec::new(),
        max_tokens: 0,
        logprobs: Some(5),
        echo: true,
        priority: Priority::Normal,
        seal: None,
    };
    engine.submit(request, Box::new(move |event| sender.send(event).is_ok())).unwrap();
    loop {
        match events.recv_timeout(Duration::from_mins(1)).unwrap() {
            Event::Chosen { .. } => {}
            Event::Scored { tail, next_top } => return (tail, next_top),
            other => panic!("scores come first: {other:?}"),
        }
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

/// Longer than the tiny models' window of 32 when put together.
fn sample() -> Sample {
    let part = |from: TokenId, count| (0..count).map(|i| (from + 37 * i) % 256).collect::<Vec<_>>();
    Sample {
        root: ROOT.to_vec(),
        fragments: [part(5, 13), part(71, 20), part(133, 6)],
        tail: part(222, 9),
    }
}

/// On an imagined GPU they are run for what they launch: logits are zeros then.
#[test]
fn the_gates_hold_on_a_gpu() {
    let gpu = kernels::case::gpu();
    for arch in TINY {
        for page_rows in [3, 32] {
            let folder = tiny_folder(arch);
            let (kv_dtype, kv_bytes_gpu) = (KvDtype::F16, Some(16 << 20));
            let options =
                LoadOptions { kv_dtype, kv_bytes_gpu, page_rows, ..LoadOptions::default() };
            let (mut model, _) = GpuDecoder::load(&gpu, &folder, &options, &[0; 32]).unwrap();
            // Many rows meet the weights in bf16, few in f32.
            let bound = Bound::Divergence(0.002);
            for gate in gates::run_by(&mut model, &sample(), bound, Promise::Rounding) {
                assert!(gate.is_open(), "{arch}, pages of {page_rows}: {gate:?}");
            }
        }
    }
}

#[test]
fn the_gates_hold_on_every_architecture() {
    let sample = sample();
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
    let samples = [sample.clone(), Sample { tail: part("In winter,"), ..sample }];
    let mut tried = Vec::new();
    let found = gates::calibrate(&mut decoder, &samples, |temperature, scale, divergence| {
        tried.push((temperature, scale, divergence));
    });
    assert!(tried.contains(&(found.temperature, found.scale, found.divergence)), "{found:?}");
    assert!(found.divergence <= found.before && found.before > 0.01, "{found:?}");
    let again = gates::calibrate(&mut decoder, &samples, |_, _, _| ());
    assert_eq!(found, again, "what was written before changes nothing");
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

/// Rows of three fragments after the root; longer than the tiny models' window of 32.
fn texts() -> [Vec<TokenId>; 3] {
    [(10..31).collect(), (40..53).rev().collect(), (100..109).collect()]
}

#[test]
fn policies_that_compute_every_row_again_are_recompute() {
    let texts = texts();
    let parts: Vec<&[TokenId]> = texts.iter().map(Vec::as_slice).collect();
    let policies = [
        JoinPolicy::Boundary { tokens: 1 << 20 },
        JoinPolicy::Query { ratio: 1.0 },
        JoinPolicy::Deviation { ratio: 1.0 },
    ];
    for arch in TINY {
        for page_rows in [1, 3, 32] {
            let engine = engine(arch, page_rows);
            let exact = score(&engine, &ROOT, &parts, JoinPolicy::Recompute).0;
            let reused = score(&engine, &ROOT, &parts, JoinPolicy::Reuse).0;
            assert!(difference(&reused, &exact) > ROUNDING, "{arch}: reuse is not exact");
            for policy in policies {
                let error = difference(&score(&engine, &ROOT, &parts, policy).0, &exact);
                assert!(error < ROUNDING, "{arch}, pages of {page_rows}, {policy}: {error}");
            }
        }
    }
}

#[test]
fn a_join_has_the_same_bits_whatever_the_chunks_and_pages_stay_as_they_are() {
    let texts = texts();
    let parts: Vec<&[TokenId]> = texts.iter().map(Vec::as_slice).collect();
    let policies = [
        JoinPolicy::Boundary { tokens: 3 },
        JoinPolicy::Query { ratio: 0.3 },
        JoinPolicy::Deviation { ratio: 0.3 },
        JoinPolicy::Parallel { temperature: 0.9, scale: 0.9 },
    ];
    for arch in TINY {
        for policy in policies {
            let mut seen = Vec::new();
            for prefill_rows_per_step in [1, 5, 256] {
                let config = Config { prefill_rows_per_step, ..Config::default() };
                let decoder = Box::new(tiny(arch, 4));
                let engine = Engine::start(decoder, None, config, Arc::new(Still));
                let before: Vec<_> = parts.iter().map(|tokens| put(&engine, tokens)).collect();
                let first = score(&engine, &ROOT, &parts, policy);
                // From the overlay that the first made, where there is one.
                assert_eq!(first, score(&engine, &ROOT, &parts, policy), "{arch} {policy}");
                let after: Vec<_> = parts.iter().map(|tokens| put(&engine, tokens)).collect();
                assert_eq!(before, after, "{arch} {policy}: shared pages changed");
                seen.push(first);
            }
            assert!(seen.iter().all(|other| *other == seen[0]), "{arch} {policy}: chunks show");
        }
    }
}

/// Rows computed again, one by one and each in a page of its own: no overlay, no row hidden, only
/// runs of one row, stale or fresh.
#[test]
fn repairs_are_rows_replaced_one_by_one() {
    let texts = texts();
    let parts: Vec<&[TokenId]> = texts.iter().map(Vec::as_slice).collect();
    for arch in TINY {
        for selected in [vec![24_u32, 25, 37], (3..46).step_by(3).collect(), vec![45]] {
            let engine = engine(arch, 4);
            let policy = JoinPolicy::Query { ratio: 0.5 };
            let got = score_with(&engine, &ROOT, &parts, policy, Some(&selected)).0;
            let want = one_by_one(arch, &parts, &selected);
            let error = difference(&got, &want);
            assert!(error < ROUNDING, "{arch} {selected:?}: {error}");
        }
    }
}

/// Scores of the tail over rows replaced one by one.
fn one_by_one(arch: &str, parts: &[&[TokenId]], selected: &[u32]) -> Vec<TokenLogprob> {
    let mut model = tiny(arch, 1);
    let mut next = 0;
    let mut page = || {
        next += 1;
        [PageId(next - 1)]
    };
    let root: Vec<_> = ROOT.iter().map(|_| page()).collect();
    let at_root: Vec<Run<'_>> =
        root.iter().zip(0..).map(|(page, at)| Run::new(page, 1, at, 0)).collect();
    for (i, &token) in ROOT.iter().enumerate() {
        forward_one(&mut model, token, i as u32, root[i][0], &at_root[..=i]);
    }
    let root_len = ROOT.len();
    let stale: Vec<_> = parts.iter().map(|part| vec![0; part.len()]).collect();
    let stale: Vec<Vec<_>> =
        stale.iter().map(|part| part.iter().map(|_| page()).collect()).collect();
    let mut joined = at_root.clone();
    for (part, pages) in parts.iter().zip(&stale) {
        let mut alone = at_root.clone();
        let shift = (joined.len() - root_len) as i32;
        for (row, (&token, page)) in part.iter().zip(pages).enumerate() {
            let at = (root_len + row) as u32;
            alone.push(Run::new(page, 1, at, 0));
            forward_one(&mut model, token, at, page[0], &alone);
            joined.push(Run::new(page, 1, at.wrapping_add_signed(shift), shift));
        }
    }
    let tokens: Vec<TokenId> = ROOT.into_iter().chain(parts.concat()).chain(TAIL).collect();
    let fresh: Vec<_> = (0..selected.len() + TAIL.len()).map(|_| page()).collect();
    for (&at, page) in selected.iter().zip(&fresh) {
        joined[at as usize] = Run::new(page, 1, at, 0);
        forward_one(&mut model, tokens[at as usize], at, page[0], &joined);
    }
    let mut scores = Vec::new();
    for (i, page) in fresh[selected.len()..].iter().enumerate() {
        let at = joined.len() as u32;
        joined.push(Run::new(page, 1, at, 0));
        let logits = forward_one(&mut model, TAIL[i], at, page[0], &joined);
        if let Some(&token) = TAIL.get(i + 1) {
            let logprob = logits[token as usize] - kernels::log_sum_exp(&logits);
            scores.push(TokenLogprob { token, logprob, top: Vec::new() });
        }
    }
    scores
}

fn forward_one(
    model: &mut Decoder,
    token: TokenId,
    at: u32,
    page: PageId,
    runs: &[Run<'_>],
) -> Vec<f32> {
    let spans = [Span::new(0..1, runs)];
    let mut logits = Vec::new();
    model.forward(
        &Batch {
            tokens: &[token],
            positions: &[at],
            writes: &[RowAddr { page, row: 0 }],
            spans: &spans,
            logits_rows: &[0],
        },
        &mut logits,
    );
    logits
}

fn difference(a: &[TokenLogprob], b: &[TokenLogprob]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a.logprob - b.logprob).abs()).fold(0.0, f32::max)
}

fn put(engine: &Engine, tokens: &[TokenId]) -> (FragmentId, [u8; 32]) {
    let (root, tokens) = (ROOT.into(), tokens.into());
    let spec = FragmentSpec {
        tenant: "test".into(),
        root,
        tokens,
        pin: false,
        priority: Priority::Normal,
    };
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

//! The decoder on a GPU against its twin on the CPU; without a GPU every launch of a step is held
//! against what devices take, on an imagined one.

use crate::desk::{
    Desk, TINY, Written, difference, load_at, load_on, options, rounded, same_bits, tokens,
};
use kernels::case::gpu;
use kernels::cuda::Gpu;
use kernels::{Choice, MASS_ONE, PageId, RowAddr, Run, Span};
use models::{Batch, Choices, GpuDecoder, KvDtype, LoadOptions, Model, RandomModel, Weight};

/// Rows of pages here: a fragment takes several, and fills none evenly.
const PAGE_ROWS: usize = 4;

/// As near to the CPU's f32 as a GPU comes: what rounding leaves of activations is multiplied as well.
fn fine() -> LoadOptions {
    LoadOptions { page_rows: PAGE_ROWS, fine_activations: true, ..options() }
}

/// What a model gave for the steps of one composition.
struct Given {
    /// Of every row of the tail, forwarded together.
    tail: Vec<f32>,
    /// Of the tail's last row, where no other was asked for.
    last: Vec<f32>,
    /// Of tokens decoded one by one.
    decoded: Vec<f32>,
    /// Of rows of several sequences in one batch.
    together: Vec<f32>,
    attention: Vec<u64>,
    influence: Vec<u64>,
    deviations: Vec<f64>,
}

/// A root and two fragments joined at other places than they were encoded at, and all that is done
/// with them.
fn steps<M: Model>(model: M) -> Given {
    let mut desk = Desk::new(model);
    let (root, _) = desk.write(&tokens(1, 5, 256), 0, &[], usize::MAX);
    let first = desk.encode(&tokens(2, 11, 256), root.end(), &[&root]);
    let second = desk.encode(&tokens(3, 21, 256), root.end(), &[&root]);
    let second = second.placed(root.end() + 2);
    let first = first.placed(second.end() + 1);
    let before = [&root, &second, &first];
    let tail = tokens(4, 7, 256);
    let (own, all) = desk.write(&tail, first.end(), &before, usize::MAX);

    let mut runs = vec![own];
    let mut decoded = Vec::new();
    for (i, &token) in tokens(5, 6, 256).iter().enumerate() {
        let seen: Vec<_> = before.into_iter().chain(&runs).collect();
        let at = seen[2].end() + tail.len() as u32 + i as u32;
        let (next, logits) = desk.write(&[token], at, &seen, 1);
        runs.push(next);
        decoded.extend(logits);
    }
    let texts = [tokens(6, 1, 256), tokens(7, 1, 256), tokens(8, 1, 256)];
    let (_, mut together) = desk.write_together(&texts, &first, |_| true);
    let texts = [tokens(9, 12, 256), tokens(10, 3, 256)];
    together.extend(desk.write_together(&texts, &root, |row| row % 3 == 2).1);

    let runs: Vec<_> = [&root, &second, &first, &runs[0]].map(Written::run).to_vec();
    let [attention, influence] =
        [Weight::Attention, Weight::Influence].map(|by| weigh(&mut desk.model, &tail, &runs, by));
    let last = last(&mut desk.model, &tail, &runs);
    let deviations = deviations(&mut desk.model, &runs[..3]);
    Given { tail: all, last, decoded, together, attention, influence, deviations }
}

/// Where the rows of the last of `runs` stand, and where they lie.
fn again(runs: &[Run<'_>]) -> (Vec<u32>, Vec<RowAddr>) {
    let own = runs[runs.len() - 1];
    let positions = (0..own.rows).map(|row| own.start + row).collect();
    let address = |row: u32| {
        let page = own.pages[row as usize / PAGE_ROWS];
        RowAddr { page, row: row % PAGE_ROWS as u32 }
    };
    (positions, (0..own.rows).map(address).collect())
}

fn weigh<M: Model>(model: &mut M, tail: &[u32], runs: &[Run<'_>], by: Weight) -> Vec<u64> {
    let (positions, writes) = again(runs);
    let spans = [Span::new(0..tail.len(), runs)];
    let (positions, writes, spans) = (&positions[..], &writes[..], &spans[..]);
    let rows = runs.iter().map(|run| run.rows as usize).sum();
    let (mut mass, mut logits) = (vec![0; rows], Vec::new());
    let batch = Batch { tokens: tail, positions, writes, spans, logits_rows: &[tail.len() - 1] };
    model.weigh(&batch, by, &mut mass, &mut logits);
    assert_eq!(logits.len(), model.shape().vocab);
    mass
}

fn last<M: Model>(model: &mut M, tail: &[u32], runs: &[Run<'_>]) -> Vec<f32> {
    let (positions, writes) = again(runs);
    let spans = [Span::new(0..tail.len(), runs)];
    let (positions, writes, spans) = (&positions[..], &writes[..], &spans[..]);
    let mut logits = Vec::new();
    let batch = Batch { tokens: tail, positions, writes, spans, logits_rows: &[tail.len() - 1] };
    model.forward(&batch, &mut logits);
    logits
}

/// How far the rows of the last run's text are off where it stands.
fn deviations<M: Model>(model: &mut M, runs: &[Run<'_>]) -> Vec<f64> {
    let (positions, writes) = again(runs);
    let spans = [Span::new(0..positions.len(), runs)];
    let (positions, writes, spans) = (&positions[..], &writes[..], &spans[..]);
    let tokens = &tokens(2, positions.len(), 256)[..];
    let mut deviations = vec![0.0; tokens.len()];
    model.deviate(&Batch { tokens, positions, writes, spans, logits_rows: &[] }, &mut deviations);
    deviations
}

#[test]
fn a_gpu_gives_what_the_cpu_gives() {
    let gpu = gpu();
    for arch in TINY {
        let folder = rounded(arch);
        let (got, _) = GpuDecoder::load(&gpu, folder.path(), &fine(), &[0; 32]).unwrap();
        let got = steps(got);
        if gpu.is_imagined() {
            continue;
        }
        let want = steps(load_at(folder.path(), &fine()));
        let near = |name: &str, want: &[f32], got: &[f32], tolerance: f64| {
            let error = difference(want, got, 256);
            println!("{arch}, {name}: {error:.2e}");
            assert!(error < tolerance, "{arch}, {name}: {error}");
        };
        near("tail", &want.tail, &got.tail, 2e-3);
        near("last", &want.last, &got.last, 2e-3);
        near("decoded", &want.decoded, &got.decoded, 2e-3);
        near("together", &want.together, &got.together, 2e-3);
        let weights = want.attention.iter().zip(&got.attention);
        let off = weights.map(|(&want, &got)| want.abs_diff(got)).max().unwrap();
        assert!(off < MASS_ONE / 1000, "{arch}: {off} of {MASS_ONE}");
        let influence = want.influence.iter().zip(&got.influence);
        let off: f64 = influence.map(|(&want, &got)| want.abs_diff(got) as f64).sum();
        let sum: f64 = want.influence.iter().map(|&w| w as f64).sum();
        assert!(off < 2e-3 * sum, "{arch}: {off} of {sum}");
        let largest = want.deviations.iter().copied().fold(0.0, f64::max);
        for (want, got) in want.deviations.iter().zip(&got.deviations) {
            assert!((want - got).abs() < 2e-3 * largest, "{arch}: {want} and {got} of {largest}");
        }
    }
}

/// What is launched does not depend on what numbers are, so it can be checked where nothing is
/// computed.
#[test]
fn every_step_of_every_architecture_launches_what_devices_take() {
    let gpu = Gpu::imagined();
    for arch in TINY {
        for kv_dtype in KvDtype::ALL {
            for fine_activations in [false, true] {
                let options = LoadOptions { kv_dtype, fine_activations, ..fine() };
                let given = steps(load_on(&gpu, arch, &options));
                let zeros = |logits: &[f32]| logits.iter().all(|&x| x == 0.0);
                assert!(
                    zeros(&given.tail) && zeros(&given.together),
                    "{arch}: nothing is computed"
                );
            }
        }
        let mut model = load_on(&gpu, arch, &options());
        model.copy_rows(PageId(0), PageId(1), 3);
        let mut kv = Vec::new();
        model.read_rows(&[PageId(0), PageId(1)], 33, &mut kv);
        assert_eq!(kv.len(), model.shape().page_bytes + model.shape().row_bytes);
        model.fill_rows(&[PageId(2), PageId(3)], 33, &kv);
        model.digest(&[PageId(3)], 7);
    }
}

#[test]
fn recorded_steps_give_the_same_bits() {
    let gpu = gpu();
    for arch in TINY {
        let options = LoadOptions { kv_dtype: KvDtype::F16, ..fine() };
        let mut plain = load_on(&gpu, arch, &options);
        plain.use_graphs(false);
        let (want, got) = (steps(plain), steps(load_on(&gpu, arch, &options)));
        assert!(same_bits(&want.decoded, &got.decoded), "{arch}: decoded one by one");
        assert!(same_bits(&want.together, &got.together), "{arch}: several in a batch");
    }
}

/// Gives the choices of a batch, some at temperatures and all greedy, and checks them against its rows.
fn check_choices(model: &mut GpuDecoder, batch: &Batch<'_>) {
    let (wanted, vocab) = (batch.logits_rows.len(), model.shape().vocab);
    let (mut rows, mut row, mut choices) = (Vec::new(), Vec::new(), Vec::new());
    model.forward(batch, &mut rows);
    let some: Vec<f32> = (0..wanted).map(|place| 0.7 * (place % 3) as f32 + 0.1).collect();
    for (temperatures, count) in [(some, Choice::TOP_MAX), (vec![0.0; wanted], 0)] {
        // Issued, recorded, and issued as recorded.
        for _ in 0..3 {
            model.forward_to_choices(batch, &temperatures, &mut choices);
            assert_eq!(choices.len(), wanted);
            for (place, (found, want)) in choices.iter().zip(rows.chunks(vocab)).enumerate() {
                model.logits_of(place, &mut row);
                assert!(same_bits(&row, want), "the row that was kept");
                assert_eq!(found.top.len(), count.min(vocab));
                if !model.gpu().is_imagined() {
                    let want = Choice::of(want, temperatures[place], count);
                    let off = (found.tempered - want.tempered).abs();
                    assert!(off <= 1e-6 * want.tempered, "{found:?}, {want:?}");
                    assert_eq!((&found.top, &found.likeliest), (&want.top, &want.likeliest));
                }
            }
        }
    }
}

/// Of prompts as of decode steps, recorded or not.
#[test]
fn choices_are_made_of_the_rows_they_stand_for() {
    let gpu = gpu();
    for arch in TINY {
        let mut desk = Desk::new(load_on(&gpu, arch, &fine()));
        let (root, _) = desk.write(&tokens(1, 5, 256), 0, &[], usize::MAX);
        let tail = tokens(2, 7, 256);
        let (own, _) = desk.write(&tail, root.end(), &[&root], usize::MAX);
        let runs = [root.run(), own.run()];
        let (positions, writes) = again(&runs);
        for logits_rows in [&[6][..], &[1, 2, 4, 5, 6], &[0, 1, 2, 3, 4, 5, 6], &[]] {
            let (positions, writes) = (&positions[..], &writes[..]);
            let spans = &[Span::new(0..tail.len(), &runs)];
            let batch = Batch { tokens: &tail, positions, writes, spans, logits_rows };
            check_choices(&mut desk.model, &batch);
        }
        // Three rows, filled up to four.
        let seen = [5, 6, 7].map(|rows| [root.run(), Run { rows, ..own.run() }]);
        let spans = [0, 1, 2].map(|row| Span::new(row..row + 1, &seen[row]));
        let batch = Batch {
            tokens: &tail[4..],
            positions: &positions[4..],
            writes: &writes[4..],
            spans: &spans,
            logits_rows: &[0, 1, 2],
        };
        check_choices(&mut desk.model, &batch);
    }
}

#[test]
fn rows_come_back_as_they_went_and_land_where_they_are_put() {
    let gpu = gpu();
    for kv_dtype in KvDtype::ALL {
        let mut desk = Desk::new(load_on(&gpu, "qwen3", &LoadOptions { kv_dtype, ..fine() }));
        let (written, _) = desk.write(&tokens(1, 10, 256), 0, &[], usize::MAX);
        let digest = desk.digest(&written);
        let mut kv = Vec::new();
        desk.model.read_rows(&written.pages, 10, &mut kv);
        let pages = [PageId(20), PageId(21), PageId(22)];
        desk.model.fill_rows(&pages, 10, &kv);
        assert_eq!(desk.model.digest(&pages, 10), digest, "{kv_dtype}");
        desk.model.copy_rows(pages[2], PageId(30), 2);
        let moved = [pages[0], pages[1], PageId(30)];
        assert_eq!(desk.model.digest(&moved, 10), digest, "{kv_dtype}");
    }
}

/// Sizes of which no two are the same, with an output matrix of its own.
const RANDOM: RandomModel = RandomModel {
    dim: 96,
    heads: 6,
    kv_heads: 2,
    head_dim: 32,
    ffn: 160,
    vocab: 256,
    layers: 2,
    context: 512,
    tied: false,
};

#[test]
fn a_random_model_says_the_same_each_time() {
    let gpu = gpu();
    let given = [false, false, true].map(|tied| {
        let sizes = RandomModel { tied, ..RANDOM };
        steps(GpuDecoder::random(&gpu, &sizes, &fine()).expect("a small model")).tail
    });
    if gpu.is_imagined() {
        return;
    }
    assert!(same_bits(&given[0], &given[1]), "weights are of the sizes alone");
    assert!(given[0].iter().all(|x| x.is_finite()) && !same_bits(&given[0], &given[2]));
    let squares: f32 = given[0].iter().map(|x| x * x).sum();
    let size = (squares / given[0].len() as f32).sqrt();
    // A normed row of 96 numbers times weights of deviation 0.02.
    assert!((0.1..0.4).contains(&size), "logits are of ordinary size: {size}");
}

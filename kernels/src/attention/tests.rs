//! What attention must hold to the bit, and what moving a run may change. That every case is its
//! reference on every instruction set is tested with all ops' cases.

use super::cases::shared::orders;
use super::cases::{Case, Filled, shapes, spans};
use super::plan::{Call, Task};
use super::{AttentionScratch, AttentionShape, Looks, Queries, attention, attention_mass};
use crate::{Cpu, HiddenRows, Isa, KvDtype, Run, Span};

const SEED: u64 = 20_240_607;

#[test]
fn threads_and_batches_change_no_bit() {
    for case in shapes() {
        let filled = case.fill(SEED);
        let runs = filled.runs();
        let rows = filled.positions.len();
        let spans = [filled.span(0..rows, &runs)];
        let queries = filled.queries(0..rows, &spans);
        for isa in Isa::tested() {
            let whole = run(&Cpu::new(1, isa), &filled, &queries);
            for threads in [3, 7] {
                let cpu = Cpu::new(threads, isa);
                assert_same(&run(&cpu, &filled, &queries), &whole, (&case, isa, threads));
            }
            let cpu = Cpu::new(2, isa);
            // Each row alone, and the rows as spans of a batch that are cut unevenly.
            let alone = (0..rows).flat_map(|row| {
                let spans = [filled.span(0..1, &runs)];
                run(&cpu, &filled, &filled.queries(row..row + 1, &spans))
            });
            let alone: Vec<f32> = alone.collect();
            assert_same(&alone, &whole, (&case, isa, 0));
            let cuts = [0, rows / 5, rows / 5, rows / 2, rows];
            let spans: Vec<_> = cuts.windows(2).map(|c| filled.span(c[0]..c[1], &runs)).collect();
            let cut = run(&cpu, &filled, &filled.queries(0..rows, &spans));
            assert_same(&cut, &whole, (&case, isa, 0));
        }
    }
}

#[test]
fn rows_not_written_yet_change_no_bit() {
    for case in shapes() {
        let filled = case.fill(SEED);
        let runs = filled.runs();
        let row = filled.positions.len() / 2;
        let position = filled.positions[row];
        let spans = [filled.span(0..1, &runs)];
        let cut: Vec<Run<'_>> = runs
            .iter()
            .map(|run| {
                let later = (0..run.rows).find(|&r| run.position(r) > position);
                let rows = later.unwrap_or(run.rows);
                Run { rows, pages: &run.pages[..(rows as usize).div_ceil(case.page_rows)], ..*run }
            })
            .collect();
        let earlier = [filled.span(0..1, &cut)];
        for isa in Isa::tested() {
            let cpu = Cpu::new(2, isa);
            let after = run(&cpu, &filled, &filled.queries(row..row + 1, &spans));
            let before = run(&cpu, &filled, &filled.queries(row..row + 1, &earlier));
            assert_same(&before, &after, (&case, isa, 2));
        }
    }
}

#[test]
fn a_run_placed_elsewhere_is_as_if_encoded_there() {
    let shifted: &[(u32, u32, i32)] = &[(20, 0, 0), (50, 20, 15), (50, 70, -40)];
    let encoded: &[(u32, u32, i32)] = &[(20, 0, 0), (50, 20, 0), (50, 70, 0)];
    let case =
        Case { runs: shifted, positions: 110..120, dtype: KvDtype::F32, ..shapes().remove(0) };
    let same = Case { runs: encoded, ..case.clone() };
    let results = [case, same].map(|case| {
        let filled = case.fill(SEED);
        let runs = filled.runs();
        let spans = [Span::new(0..10, &runs)];
        run(&Cpu::new(1, Isa::best()), &filled, &filled.queries(0..10, &spans))
    });
    let off = results[0].iter().zip(&results[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // Keys and queries of about 1 are rounded four times more: 64 dims * 1.5^2 / 8 * 4 ulp.
    assert!(off < 64.0 * 2.25 / 8.0 * 4.0 * 1.2e-7 * 3.0, "off by {off}");
    assert!(off > 0.0, "the rotations differ");
}

#[test]
fn a_dropped_run_leaves_no_trace() {
    let with: &[(u32, u32, i32)] = &[(7, 0, 0), (45, 7, 3), (40, 52, 2)];
    let without: &[(u32, u32, i32)] = &[(7, 0, 0), (40, 52, 2)];
    for dtype in KvDtype::ALL {
        let case = Case { runs: with, positions: 80..92, dtype, ..shapes().remove(0) };
        let filled = case.fill(SEED);
        let mut runs = filled.runs();
        runs.remove(1);
        let spans = [Span::new(0..12, &runs)];
        // A pool that never held it; the numbers of a run come with its seed.
        let never = Case { runs: without, ..case.clone() };
        let mut other = never.fill(SEED);
        let (kv, rope, pages) = (&mut other.kv, &other.rope, &other.pages[1]);
        never.fill_run(kv, rope, pages, without[1], SEED + 2);
        let other_runs = other.runs();
        let other_spans = [Span::new(0..12, &other_runs)];
        for isa in Isa::tested() {
            let cpu = Cpu::new(2, isa);
            let dropped = run(&cpu, &filled, &filled.queries(0..12, &spans));
            let never = run(&cpu, &other, &other.queries(0..12, &other_spans));
            assert_same(&dropped, &never, (&case, isa, 2));
        }
    }
}

#[test]
fn a_row_that_sees_nothing_gives_zeros_and_rows_of_no_span_stay() {
    let case = Case { runs: &[(10, 100, 0)], positions: 98..102, ..shapes().remove(0) };
    let filled = case.fill(SEED);
    let runs = filled.runs();
    let spans = [Span::new(1..3, &runs)];
    let queries = filled.queries(0..4, &spans);
    let width = filled.shape.heads * filled.shape.head_dim;
    let mut out = vec![7.0; 4 * width];
    let cpu = Cpu::new(2, Isa::best());
    attention(&cpu, &filled.kv, &filled.shape, &queries, &mut AttentionScratch::new(), &mut out);
    assert!(out[..width].iter().chain(&out[3 * width..]).all(|&x| x == 7.0));
    assert!(out[width..2 * width].iter().all(|x| x.to_bits() == 0), "position 99 sees nothing");
    assert!(out[2 * width..3 * width].iter().all(|&x| x != 7.0 && x.is_finite()));
}

/// Every row is a span of its own, which sees the runs in an order of its own: pages are read for
/// several spans at once, each of which sees them elsewhere.
#[test]
fn spans_that_share_pages_change_no_bit() {
    let mut shared = 0;
    for case in shapes() {
        let filled = case.fill(SEED);
        let rows = filled.positions.len();
        let orders = orders(&filled);
        let spans = spans(&filled, &orders);
        for isa in Isa::tested() {
            let alone = (0..rows).flat_map(|row| {
                let spans = [filled.span(0..1, &orders[row])];
                run(&Cpu::new(1, isa), &filled, &filled.queries(row..row + 1, &spans))
            });
            let alone: Vec<f32> = alone.collect();
            for threads in [1, 3] {
                let cpu = Cpu::new(threads, isa);
                let together = run(&cpu, &filled, &filled.queries(0..rows, &spans));
                assert_same(&together, &alone, (&case, isa, threads));
            }
        }
        assert_eq!(most_members(&filled, &spans, false), 1, "nothing is shared unless asked");
        shared += most_members(&filled, &spans, true);
    }
    assert!(shared > 40, "hardly anything is shared: {shared}");
}

/// The most spans that one task reads pages for.
fn most_members(filled: &Filled, spans: &[Span<'_>], shares: bool) -> usize {
    let mut scratch = AttentionScratch::new();
    scratch.share_reads(shares);
    let queries = filled.queries(0..filled.positions.len(), spans);
    let mut out = vec![0.0; queries.q.len()];
    let cpu = Cpu::new(2, Isa::best());
    attention(&cpu, &filled.kv, &filled.shape, &queries, &mut scratch, &mut out);
    let call = Call {
        looks: queries.looks,
        shape: filled.shape,
        page_rows: filled.kv.layout().page_rows,
        threads: cpu.threads(),
        shares,
    };
    let plan = scratch.plans.of(call);
    let members = plan.tasks.iter().map(|task| match task {
        Task::Whole { .. } => 1,
        Task::Split { members, .. } => members.len(),
    });
    members.max().unwrap_or(0)
}

/// Layers of two shapes, batch after batch in the same memory: what was planned for the one serves no
/// other.
#[test]
fn a_plan_serves_its_batch_and_shape_alone() {
    let case = Case { runs: &[(20, 0, 0), (50, 20, 15)], positions: 40..52, ..shapes().remove(0) };
    let filled = case.fill(SEED);
    let runs = filled.runs();
    let windowed = AttentionShape { window: Some(9), ..filled.shape };
    let cpu = Cpu::new(2, Isa::best());
    let mut positions = filled.positions.clone();
    let mut scratch = AttentionScratch::new();
    let mut seen = Vec::new();
    for back in [0, 30, 5] {
        positions.iter_mut().zip(&filled.positions).for_each(|(to, from)| *to = from - back);
        let spans = [filled.span(0..5, &runs), filled.span(5..12 - back as usize / 5, &runs)];
        let looks = Looks::new(&positions, &spans);
        let queries = Queries { looks, ..filled.queries(0..12, &spans) };
        for shape in [filled.shape, windowed, filled.shape, windowed] {
            let [kept, fresh] = [&mut scratch, &mut AttentionScratch::new()].map(|scratch| {
                let mut out = vec![0.0; queries.q.len()];
                attention(&cpu, &filled.kv, &shape, &queries, scratch, &mut out);
                out
            });
            assert_same(&kept, &fresh, (&case, cpu.isa(), back as usize));
            seen.push(kept);
        }
    }
    assert!(seen[0] != seen[1] && seen[0] == seen[2] && seen[0] != seen[4] && seen[0] != seen[8]);
}

#[test]
fn masses_depend_on_no_cut() {
    for case in shapes().into_iter().filter(|case| case.tempered.is_none()) {
        let filled = case.fill(SEED);
        let runs = filled.runs();
        let rows = filled.positions.len();
        let total = runs.iter().map(|run| run.rows as usize).sum();
        let count = |cpu: &Cpu, cuts: &[usize]| {
            let mut mass = vec![0; total];
            for cut in cuts.windows(2) {
                let spans = [filled.span(0..cut[1] - cut[0], &runs)];
                let queries = filled.queries(cut[0]..cut[1], &spans);
                let Filled { kv, shape, .. } = &filled;
                let mut scratch = AttentionScratch::new();
                attention_mass(cpu, kv, shape, &queries, &mut scratch, &mut mass);
            }
            mass
        };
        for isa in Isa::tested() {
            let whole = count(&Cpu::new(1, isa), &[0, rows]);
            let one_by_one: Vec<usize> = (0..=rows).collect();
            for threads in [1, 3] {
                let cpu = Cpu::new(threads, isa);
                assert_eq!(count(&cpu, &[0, rows / 3, rows / 2, rows]), whole, "{case:?}");
                assert_eq!(count(&cpu, &one_by_one), whole, "{case:?}");
            }
        }
    }
}

#[test]
fn a_hidden_row_is_as_one_that_was_never_there() {
    // All rows of the second run are hidden: to the bit as without it.
    let case = Case { runs: &[(7, 0, 0), (45, 7, 3), (40, 52, 2)], ..shapes().remove(0) };
    let case = Case { positions: 80..92, ..case };
    let filled = case.fill(SEED);
    let mut runs = filled.runs();
    let mut hidden = HiddenRows::none(45, case.page_rows);
    (0..45).for_each(|row| hidden.hide(row));
    runs[1].hidden = Some(&hidden);
    let without = [runs[0], runs[2]];
    for isa in Isa::tested() {
        let cpu = Cpu::new(2, isa);
        let [with, without] = [&runs[..], &without].map(|runs| {
            let spans = [Span::new(0..12, runs)];
            run(&cpu, &filled, &filled.queries(0..12, &spans))
        });
        assert_same(&with, &without, (&case, isa, 2));
    }
}

/// Runs twice with one scratch: what a call leaves behind changes nothing.
fn run(cpu: &Cpu, filled: &Filled, queries: &Queries<'_>) -> Vec<f32> {
    let mut scratch = AttentionScratch::new();
    let [first, second] = [f32::NAN, 3.0].map(|stale| {
        let mut out = vec![stale; queries.q.len()];
        attention(cpu, &filled.kv, &filled.shape, queries, &mut scratch, &mut out);
        out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    });
    assert_eq!(first, second, "{cpu:?}");
    first.into_iter().map(f32::from_bits).collect()
}

fn assert_same(a: &[f32], b: &[f32], what: (&Case, Isa, usize)) {
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert!(bits(a) == bits(b), "not the same bits: {what:?}");
}

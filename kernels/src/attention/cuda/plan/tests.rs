//! What a plan must hold: every row that is seen is attended once, by a kernel that can; states and
//! merges fit each other.

use super::*;
use crate::case::Rng;
use crate::{HiddenRows, PageId, Tempered};
use std::collections::HashMap;

/// A plan read back.
struct Read<'a> {
    words: &'a [i32],
}

/// An item of a kind, read back.
#[derive(Clone, Debug, PartialEq)]
struct Item {
    kind: Kind,
    /// Batch row, state, place of its run, position.
    rows: Vec<[i32; 4]>,
    segments: Vec<SegmentWords>,
    tiles: usize,
}

impl<'a> Read<'a> {
    fn words(&self, at: i32, count: usize) -> &'a [i32] {
        &self.words[at as usize..][..count]
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &'a [i32]> {
        let head = &self.words[2 * kind as usize..];
        self.words(head[1], 8 * head[0] as usize).chunks_exact(8)
    }

    fn items(&self) -> Vec<Item> {
        let kinds = Kind::ALL.into_iter().filter(|&kind| kind != Kind::Merge);
        kinds.flat_map(|kind| self.of_kind(kind).map(move |item| self.item(kind, item))).collect()
    }

    fn item(&self, kind: Kind, item: &[i32]) -> Item {
        let rows = self.words(item[0], 4 * item[1] as usize).as_chunks().0.to_vec();
        let segments = self.words(item[2], 4 * item[3] as usize).chunks_exact(4);
        let segment = |s: &[i32]| SegmentWords {
            run: s[0],
            begin: s[1] as usize,
            end: s[2] as usize,
            by: f32::from_bits(s[3].cast_unsigned()),
        };
        let tiles = item[4] as usize;
        Item { kind, rows, segments: segments.map(segment).collect(), tiles }
    }

    /// Pages, rows, start and shift of the run at a place.
    fn run(&self, place: i32, page_rows: usize) -> (&'a [i32], usize, i32, i32) {
        let run = self.words(place, 8);
        let pages = self.words(run[0], (run[1] as usize).div_ceil(page_rows));
        (pages, run[1] as usize, run[2], run[3])
    }
}

const SHAPE: AttentionShape = AttentionShape {
    heads: 8,
    kv_heads: 2,
    head_dim: 64,
    scale: 0.125,
    window: None,
    softcap: None,
};

const LAYOUT: KvLayout =
    KvLayout { layers: 1, kv_heads: 2, head_dim: 64, page_rows: 16, dtype: KvDtype::Bf16 };

/// A fragment: its pages, rows, and which of them nobody sees.
struct Fragment(Vec<PageId>, u32, Option<HiddenRows>);

/// State, run, first and last row, and temperature that a row looks with.
type Looked = (i32, i32, usize, usize, f32);

/// Holds a plan against its definition.
fn check(job: &Job<'_>, plan: &Plan) {
    let read = Read { words: plan.words() };
    let page_rows = job.layout.page_rows;
    // Which segments each batch row looks at, under which state.
    let mut looked: HashMap<usize, Vec<Looked>> = HashMap::new();
    for item in read.items() {
        let queries = item.rows.len() * job.group();
        let most = match item.kind {
            Kind::Decode => DECODE_QUERIES.max(job.group()),
            Kind::Prefill => prefill_queries(job.layout.head_dim),
            Kind::Shared => SHARED_QUERIES,
            _ => job.group(),
        };
        assert!(0 < queries && queries <= most, "{item:?}");
        let tiles = item.segments.iter().map(|s| (s.end - s.begin).div_ceil(TILE)).sum::<usize>();
        assert_eq!(item.tiles, tiles);
        for segment in &item.segments {
            let aligned = item.kind == Kind::Plain || segment.begin.is_multiple_of(TILE);
            assert!(segment.begin < segment.end && aligned, "{item:?}");
            for &[row, state, own, position] in &item.rows {
                assert_eq!(position, job.positions[row as usize] as i32);
                let run = if item.kind == Kind::Shared { own } else { segment.run };
                let pages = segment.begin / page_rows..segment.end.div_ceil(page_rows);
                let of = |place| &read.run(place, page_rows).0[pages.clone()];
                assert_eq!(of(run), of(segment.run), "the same pages");
                let looks = looked.entry(row as usize).or_default();
                looks.push((state, run, segment.begin, segment.end, segment.by));
            }
        }
        if item.segments.is_empty() {
            item.rows.iter().for_each(|row| assert_eq!(row[1], -1, "zeros are written"));
        }
    }
    let merges: HashMap<i32, &[i32]> = read.of_kind(Kind::Merge).map(|m| (m[0], m)).collect();
    let mut states = 0;
    for (s, span) in job.spans.iter().enumerate() {
        for row in span.rows.clone() {
            let mut looks = looked.remove(&row).unwrap_or_default();
            looks.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
            for (r, run) in span.runs.iter().enumerate() {
                let place = plan.runs[plan.spans[s] + r];
                let of_run = |r: usize| {
                    looks
                        .iter()
                        .filter(move |look| look.1 == place)
                        .any(|l| (l.2..l.3).contains(&r))
                };
                let twice: usize =
                    looks.iter().filter(|look| look.1 == place).map(|look| look.3 - look.2).sum();
                let once = (0..run.rows as usize + TILE).filter(|&r| of_run(r)).count();
                assert_eq!(once, twice, "no row is attended twice");
                let position = job.positions[row];
                let seen = seen_by_any(run, &[position], job.shape.window);
                assert!(seen.clone().all(of_run), "row {row} sees {seen:?} of run {r}");
                let by =
                    span.tempered.filter(|by| r < by.runs).map_or(1.0, |by| 1.0 / by.temperature);
                assert!(looks.iter().all(|look| look.1 != place || (look.4 - by).abs() < 1e-6));
            }
            check_states(span, &looks, merges.get(&(row as i32)).copied(), (plan, s));
            states += merges.get(&(row as i32)).map_or(0, |merge| merge[2] as usize);
        }
    }
    assert!(looked.is_empty(), "rows of no span are not attended");
    assert_eq!(states, plan.states());
}

/// The states of a row are those that are merged, in the order of what they look at.
fn check_states(
    span: &Span<'_>,
    looks: &[(i32, i32, usize, usize, f32)],
    merge: Option<&[i32]>,
    (plan, s): (&Plan, usize),
) {
    let tempered = span.tempered.map_or(0, |by| by.runs);
    let number = |place: i32| {
        plan.runs[plan.spans[s]..].iter().position(|&run| run == place).expect("a run of the span")
    };
    let Some(merge) = merge else {
        assert!(looks.iter().all(|look| look.0 == -1));
        assert!(looks.iter().all(|look| number(look.1) >= tempered), "weighed apart");
        return;
    };
    let (first, count, early) = (merge[1], merge[2], merge[3]);
    let mut last = (0, 0);
    let mut used = vec![false; count as usize];
    for look in looks {
        let state = look.0 - first;
        assert!((0..count).contains(&state));
        used[state as usize] = true;
        assert_eq!(number(look.1) < tempered, state < early);
        let at = (number(look.1), look.2);
        assert!(at >= last, "in the order of keys");
        last = at;
    }
    assert!(used.iter().all(|&used| used));
}

/// Spans that place fragments each in an order of its own, behind a root, before a tail.
fn batch(rng: &mut Rng, way: Way, slots: usize) -> [usize; 5] {
    let mut next = 0_u32;
    let mut pages = |rows: u32| -> Vec<PageId> {
        let count = rows.div_ceil(LAYOUT.page_rows as u32);
        next += count;
        (next - count..next).map(PageId).collect()
    };
    let fragments: Vec<Fragment> = (0..3)
        .map(|i| {
            let rows = 1 + rng.below(1500) as u32;
            let mut hidden = HiddenRows::none(rows as usize, LAYOUT.page_rows);
            hidden.hide(rng.below(rows as usize));
            Fragment(pages(rows), rows, (i == 1).then_some(hidden))
        })
        .collect();
    let root = pages(20);
    let many = rng.below(2) == 0;
    let tails: Vec<(u32, Vec<PageId>)> = (0..=rng.below(6))
        .map(|_| 1 + rng.below(if many { 60 } else { 4 }) as u32)
        .map(|rows| (rows, pages(rows)))
        .collect();
    let mut positions = Vec::new();
    let mut all = Vec::new();
    for (rows, tail) in &tails {
        let mut runs = vec![Run::new(&root, 20, 0, 0)];
        let (mut at, turn) = (20, rng.below(3));
        for i in 0..3 {
            let Fragment(pages, rows, hidden) = &fragments[(i + turn) % 3];
            let hidden = hidden.as_ref();
            runs.push(Run { hidden, ..Run::new(pages, *rows, at, at as i32 - 20) });
            at += rows;
        }
        runs.push(Run::new(tail, *rows, at, 0));
        let first = positions.len();
        positions.extend(at..at + rows);
        let tempered = Tempered { runs: 2, temperature: 0.5, scale: 0.9 };
        all.push((first..positions.len(), runs, (rng.below(3) == 0).then_some(tempered)));
    }
    let spans: Vec<Span<'_>> = all
        .iter()
        .map(|(rows, runs, tempered)| Span { tempered: *tempered, ..Span::new(rows.clone(), runs) })
        .collect();
    let window = [None, None, Some(700)][rng.below(3)];
    let shape = AttentionShape { window, ..SHAPE };
    let (positions, spans) = (&positions[..], &spans[..]);
    let job = Job { layout: &LAYOUT, shape: &shape, positions, spans, slots, way };
    let mut plan = Plan::default();
    plan.make(&job);
    let first = plan.words().to_vec();
    plan.make(&job);
    assert_eq!(first, plan.words(), "nothing is left of the plan before");
    check(&job, &plan);
    Kind::ALL.map(|kind| plan.count(kind))
}

#[test]
fn every_row_that_is_seen_is_attended_once() {
    let mut rng = Rng::new(5);
    let mut counts = [0; 5];
    for i in 0..60 {
        let slots = [1, 8, 264][i % 3];
        let own = batch(&mut rng, Way::Best, slots);
        counts.iter_mut().zip(own).for_each(|(all, own)| *all += own);
        let plain = batch(&mut rng, Way::Plain, slots);
        assert!(plain[..3] == [0; 3] && plain[3] > 0);
        let rows = batch(&mut rng, Way::Rows, slots);
        assert!(rows[..3] == [0; 3]);
    }
    let [decode, prefill, shared, plain, merge] = counts;
    assert!(decode > 0 && prefill > 0 && shared > 0 && merge > 0 && plain == 0, "{counts:?}");
}

/// One span of `rows` rows behind `depth` others, in one run.
fn counts(layout: &KvLayout, shape: &AttentionShape, rows: usize, depth: usize) -> [usize; 5] {
    let all = depth + rows;
    let pages: Vec<_> = (0..all.div_ceil(layout.page_rows) as u32).map(PageId).collect();
    let runs = [Run::new(&pages, all as u32, 0, 0)];
    let positions: Vec<_> = (depth as u32..all as u32).collect();
    let spans = [Span::new(0..rows, &runs)];
    let job =
        Job { layout, shape, positions: &positions, spans: &spans, slots: 264, way: Way::Best };
    let mut plan = Plan::default();
    plan.make(&job);
    check(&job, &plan);
    Kind::ALL.map(|kind| plan.count(kind))
}

#[test]
fn kernels_are_chosen_by_shape() {
    let llama = AttentionShape { heads: 32, kv_heads: 8, head_dim: 128, ..SHAPE };
    let layout = KvLayout { kv_heads: 8, head_dim: 128, page_rows: 32, ..LAYOUT };
    // Shallow: one part, whose result is written at once.
    assert_eq!(counts(&layout, &llama, 1, 99), [1, 0, 0, 0, 0]);
    // Deep: parts for all blocks of the device.
    assert_eq!(counts(&layout, &llama, 1, 32_767), [64, 0, 0, 0, 1]);
    // A tail over much that is cached.
    assert_eq!(counts(&layout, &llama, 32, 32_768), [0, 64, 0, 0, 32]);
    // A long prefill has tiles enough.
    assert_eq!(counts(&layout, &llama, 4096, 0), [0, 128, 0, 0, 0]);
    // What the fast kernels are not made for.
    for layout in [
        KvLayout { page_rows: 48, ..layout },
        KvLayout { page_rows: 8, ..layout },
        KvLayout { dtype: KvDtype::Int8, ..layout },
        KvLayout { dtype: KvDtype::F32, ..layout },
    ] {
        assert_eq!(counts(&layout, &llama, 3, 20), [0, 0, 0, 3, 0]);
    }
    // Few rows over codes are decoded like others.
    let codes = KvLayout { dtype: KvDtype::Int8, ..layout };
    assert_eq!(counts(&codes, &llama, 1, 32_767), [64, 0, 0, 0, 1]);
    // Groups of more than eight heads: one row may be two blocks' work, more are tiles.
    let wide = AttentionShape { heads: 16, kv_heads: 1, ..llama };
    let layout = KvLayout { kv_heads: 1, ..layout };
    assert_eq!(counts(&layout, &wide, 1, 20), [1, 0, 0, 0, 0]);
    assert_eq!(counts(&layout, &wide, 2, 20), [0, 1, 0, 0, 0]);
    let wider = AttentionShape { heads: 71, kv_heads: 1, ..llama };
    assert_eq!(counts(&layout, &wider, 1, 20), [0, 0, 0, 1, 0]);
}

#[test]
fn words_hold_pages_positions_and_hidden_rows() {
    let pages = [PageId(7), PageId(3)];
    let mut hidden = HiddenRows::none(20, 16);
    for row in [0, 17] {
        hidden.hide(row);
    }
    let positions: Vec<u32> = (0..20).map(|row| 2 * row).collect();
    let run =
        Run { positions: Some(&positions), hidden: Some(&hidden), ..Run::new(&pages, 20, 5, -3) };
    let runs = [Run::new(&pages[..1], 4, 0, 0), run];
    let spans = [Span::new(0..1, &runs)];
    let job = Job {
        layout: &LAYOUT,
        shape: &SHAPE,
        positions: &[100],
        spans: &spans,
        slots: 8,
        way: Way::Best,
    };
    let mut plan = Plan::default();
    plan.make(&job);
    check(&job, &plan);
    let read = Read { words: plan.words() };
    let place = plan.runs[1];
    assert_eq!(read.run(place, 16), (&[7, 3][..], 20, 5, -3));
    let run = read.words(place, 8);
    assert_eq!(read.words(run[4], 20)[19], 38);
    assert_eq!(read.words(run[5], 1)[0].cast_unsigned(), 1 | 2 << 16);
    assert_eq!(run[6], 4, "rows of the runs before");
    assert_eq!((plan.turns(), plan.rows()), (104, 24));
}

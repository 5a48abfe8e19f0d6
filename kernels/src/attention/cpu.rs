//! Runs a plan: each task attends one tile of queries, over one split or over all it sees.

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]

use super::page::{Lane16, Panels, Weights, score, soften, weigh};
use super::plan::{Part, Plan, Tile, seen, seen_by_any, split_rows, splits_of};
use super::{AttentionScratch, AttentionShape, Queries};
use crate::cpu::Disjoint;
use crate::kv::Element;
use crate::merge::merge_into;
use crate::simd::lanes::{LANES, Lanes, OnLanes, on_lanes};
use crate::{Cpu, KvDtype, KvPool, PageId, Run};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What one call is asked.
pub(super) struct Problem<'a> {
    pub(super) kv: &'a KvPool,
    pub(super) shape: &'a AttentionShape,
    pub(super) queries: &'a Queries<'a>,
}

/// Partial states that wait to be merged.
#[derive(Debug, Default)]
pub(super) struct States {
    max: Vec<f32>,
    sum: Vec<f32>,
    /// `[states, head_dim]`.
    weighted: Vec<f32>,
}

/// Runs the plan in `scratch`. Any thread may do any task: each result and each state is written
/// by one task alone.
pub(super) fn attention(
    cpu: &Cpu,
    problem: &Problem<'_>,
    scratch: &mut AttentionScratch,
    out: &mut [f32],
) {
    let AttentionScratch { plan, workers, states } = scratch;
    workers.resize_with(cpu.threads().max(workers.len()), Worker::default);
    grow(&mut states.max, plan.states);
    grow(&mut states.sum, plan.states);
    grow(&mut states.weighted, plan.states * problem.shape.head_dim);
    let sinks = Sinks {
        out: Disjoint::new(out),
        max: Disjoint::new(&mut states.max),
        sum: Disjoint::new(&mut states.sum),
        weighted: Disjoint::new(&mut states.weighted),
    };
    let workers = Disjoint::new(&mut workers[..]);
    let next = AtomicUsize::new(0);
    cpu.for_each(plan.threads, |w| {
        // SAFETY: `for_each` runs each w once, and w is below the number of workers.
        let worker = &mut unsafe { workers.range(w..w + 1) }[0];
        loop {
            let taken = next.fetch_add(1, Ordering::Relaxed);
            // From the last to the first: late rows see the most.
            let Some(task) = plan.tasks.len().checked_sub(taken + 1) else { break };
            let task = &plan.tasks[task];
            let job = Job { problem, tile: &plan.tiles[task.tile], sinks: &sinks };
            match problem.kv.layout().dtype {
                KvDtype::F32 => on_lanes(cpu, job.with::<f32>(task.part, worker)),
                KvDtype::F16 => on_lanes(cpu, job.with::<half::f16>(task.part, worker)),
                KvDtype::Bf16 => on_lanes(cpu, job.with::<half::bf16>(task.part, worker)),
            }
        }
    });
    merge_states(cpu, problem, plan, sinks);
}

/// Merges the states of tiles that were cut into splits, in order, and writes their results.
fn merge_states(cpu: &Cpu, problem: &Problem<'_>, plan: &Plan, sinks: Sinks<'_>) {
    let Sinks { out, max, sum, weighted } = sinks;
    let dims = problem.shape.head_dim;
    let cut = |tile: &&Tile| !tile.states.is_empty();
    let merge_tile = |tile: &Tile| {
        let Range { start, end } = tile.states;
        // SAFETY: all tasks are done, and the states of a tile are its own.
        let (max, sum, weighted) = unsafe {
            (max.range(start..end), sum.range(start..end), weighted.range(start * dims..end * dims))
        };
        let (max, later_max) = max.split_at_mut(tile.queries);
        let (sum, later_sum) = sum.split_at_mut(tile.queries);
        let (weighted, later) = weighted.split_at_mut(tile.queries * dims);
        for (i, o) in later.chunks_exact(dims).enumerate() {
            let q = i % tile.queries;
            let own = &mut weighted[q * dims..(q + 1) * dims];
            merge_into((&mut max[q], &mut sum[q], own), (later_max[i], later_sum[i], o));
        }
        let states = weighted.chunks_exact(dims).zip(&*sum);
        write_tile(problem, tile, &out, states);
    };
    if plan.states * dims < MERGE_FLOATS_ALONE {
        plan.tiles.iter().filter(cut).for_each(merge_tile);
    } else {
        cpu.for_each(plan.tiles.len(), |t| {
            plan.tiles.get(t).filter(cut).into_iter().for_each(merge_tile);
        });
    }
}

/// Writes `weighted / sum` of every query of a tile to its place in `out`.
fn write_tile<'s>(
    problem: &Problem<'_>,
    tile: &Tile,
    out: &Disjoint<'_, f32>,
    states: impl Iterator<Item = (&'s [f32], &'s f32)>,
) {
    let AttentionShape { heads, kv_heads, head_dim, .. } = *problem.shape;
    let group = heads / kv_heads;
    for (q, (weighted, &sum)) in states.enumerate() {
        let (row, head) = (tile.rows.start + q / group, tile.kv_head * group + q % group);
        let at = (row * heads + head) * head_dim;
        // SAFETY: one task or merge writes a tile, and tiles share no (row, head).
        let to = unsafe { out.range(at..at + head_dim) };
        // Adding 0 makes -0 of a merge the 0 it is without.
        let by = if sum == 0.0 { 0.0 } else { 1.0 / sum };
        to.iter_mut().zip(weighted).for_each(|(to, x)| *to = x * by + 0.0);
    }
}

/// Where tasks write: places that no two share.
struct Sinks<'a> {
    out: Disjoint<'a, f32>,
    max: Disjoint<'a, f32>,
    sum: Disjoint<'a, f32>,
    weighted: Disjoint<'a, f32>,
}

/// One tile of one call.
#[derive(Clone, Copy)]
struct Job<'a> {
    problem: &'a Problem<'a>,
    tile: &'a Tile,
    sinks: &'a Sinks<'a>,
}

impl<'a> Job<'a> {
    fn with<E>(self, part: Option<Part>, worker: &'a mut Worker) -> Attend<'a, E> {
        Attend { job: self, part, worker, element: PhantomData }
    }

    fn runs(&self) -> &'a [Run<'a>] {
        self.problem.queries.spans[self.tile.span].runs
    }

    fn positions(&self) -> &'a [u32] {
        &self.problem.queries.positions[self.tile.rows.clone()]
    }

    fn group(&self) -> usize {
        self.problem.shape.heads / self.problem.shape.kv_heads
    }
}

/// A thread's memory.
#[derive(Debug, Default)]
pub(super) struct Worker {
    /// Queries rotated for `rotated` and scaled, `[queries, head_dim]`.
    q: Vec<f32>,
    /// The shift `q` is rotated for.
    rotated: Option<i32>,
    /// Rows that each row of the tile sees of the run at hand.
    seen: Vec<Range<usize>>,
    /// K and V of the page at hand in f32: `[head_dim, nv]` and `[page_rows, dv]`.
    k: Vec<Lane16>,
    v: Vec<Lane16>,
    /// `[queries, nv]`.
    scores: Vec<Lane16>,
    /// `[queries]`.
    decay: Vec<f32>,
    /// State of the split at hand: `[queries]`, the sums by lane, and `[queries, dv]`.
    max: Vec<f32>,
    sums: Vec<Lane16>,
    weighted: Vec<Lane16>,
    /// States of the splits merged so far; `[queries, dv * 16]`.
    whole_max: Vec<f32>,
    whole_sum: Vec<f32>,
    whole: Vec<f32>,
}

/// A task on the way to its instruction set.
struct Attend<'a, E> {
    job: Job<'a>,
    part: Option<Part>,
    worker: &'a mut Worker,
    element: PhantomData<E>,
}

impl<E: Element> OnLanes for Attend<'_, E> {
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { job, part, worker, .. } = self;
        worker.begin(&job);
        let split_rows = split_rows(job.problem.kv.layout().page_rows);
        if let Some(part) = part {
            let run = &job.runs()[part.run];
            let rows = part.split * split_rows..(part.split + 1) * split_rows;
            worker.attend_split::<L, E>(l, &job, run, &rows);
            worker.leave_state(l, &job, part.state);
            return;
        }
        for run in job.runs() {
            for split in splits_of(run, job.positions(), job.problem.shape.window, split_rows) {
                let rows = split * split_rows..(split + 1) * split_rows;
                worker.attend_split::<L, E>(l, &job, run, &rows);
                worker.merge_split(l, &job);
            }
        }
        let dims = job.problem.shape.head_dim;
        let padded = dims.next_multiple_of(LANES);
        let states = worker.whole.chunks_exact(padded).map(|o| &o[..dims]).zip(&worker.whole_sum);
        write_tile(job.problem, job.tile, &job.sinks.out, states.take(job.tile.queries));
    }
}

impl Worker {
    /// Makes room for a tile and forgets the one before.
    fn begin(&mut self, job: &Job<'_>) {
        let (queries, dims) = (job.tile.queries, job.problem.shape.head_dim);
        let rows = job.problem.kv.layout().page_rows;
        let (nv, dv) = (rows.div_ceil(LANES), dims.div_ceil(LANES));
        self.rotated = None;
        grow(&mut self.q, queries * dims);
        grow(&mut self.k, dims * nv);
        grow(&mut self.v, rows * dv);
        grow(&mut self.scores, queries * nv);
        grow(&mut self.decay, queries);
        grow(&mut self.max, queries);
        grow(&mut self.sums, queries);
        grow(&mut self.weighted, queries * dv);
        grow(&mut self.whole_max, queries);
        grow(&mut self.whole_sum, queries);
        grow(&mut self.whole, queries * dv * LANES);
        self.whole_max[..queries].fill(f32::NEG_INFINITY);
        self.whole_sum[..queries].fill(0.0);
        self.whole[..queries * dv * LANES].fill(0.0);
    }

    /// Rotates the tile's queries for a run with this shift, unless they are.
    fn rotate(&mut self, job: &Job<'_>, shift: i32) {
        if self.rotated == Some(shift) {
            return;
        }
        self.rotated = Some(shift);
        let AttentionShape { heads, head_dim, scale, .. } = *job.problem.shape;
        let queries = job.problem.queries;
        let width = job.group() * head_dim;
        let rows = job.tile.rows.clone().zip(job.positions());
        for ((row, &position), to) in rows.zip(self.q.chunks_exact_mut(width)) {
            let from = row * heads * head_dim + job.tile.kv_head * width;
            to.copy_from_slice(&queries.q[from..from + width]);
            queries.rope.rotate(i64::from(position) - i64::from(shift), to);
            to.iter_mut().for_each(|x| *x *= scale);
        }
    }

    /// Makes the state of the tile over `rows` of `run`.
    #[inline(always)]
    fn attend_split<L: Lanes, E: Element>(
        &mut self,
        l: L,
        job: &Job<'_>,
        run: &Run<'_>,
        rows: &Range<usize>,
    ) {
        let queries = job.tile.queries;
        let dv = job.problem.shape.head_dim.div_ceil(LANES);
        let page_rows = job.problem.kv.layout().page_rows;
        let window = job.problem.shape.window;
        self.max[..queries].fill(f32::NEG_INFINITY);
        self.sums[..queries].fill([0.0; LANES]);
        self.weighted[..queries * dv].fill([0.0; LANES]);
        self.rotate(job, run.shift);
        let union = seen_by_any(run, job.positions(), window);
        let union = union.start.max(rows.start)..union.end.min(rows.end);
        self.seen.clear();
        self.seen.extend(job.positions().iter().map(|&position| {
            let seen = seen(run, position, window);
            seen.start.max(union.start)..seen.end.min(union.end)
        }));
        for page in union.start / page_rows..union.end.div_ceil(page_rows) {
            self.attend_page::<L, E>(l, job, run.pages[page], page * page_rows);
        }
    }

    /// Adds the rows of one page, the first of which is row `first` of the run.
    #[inline(always)]
    fn attend_page<L: Lanes, E: Element>(
        &mut self,
        l: L,
        job: &Job<'_>,
        page: PageId,
        first: usize,
    ) {
        let (kv, layer, head) = (job.problem.kv, job.problem.queries.layer, job.tile.kv_head);
        let (rows, dims) = (kv.layout().page_rows, kv.layout().head_dim);
        let (k, v) = (kv.k::<E>(page, layer, head), kv.v::<E>(page, layer, head));
        let (nv, dv) = (rows.div_ceil(LANES), dims.div_ceil(LANES));
        let whole_vectors = rows.is_multiple_of(LANES) && dims.is_multiple_of(LANES);
        if whole_vectors && job.tile.queries <= QUERIES_DIRECT {
            let panels = Panels { k: k.as_chunks().0, v: v.as_chunks().0, nv, dv };
            self.attend_panels(l, job, panels, first);
            return;
        }
        // Worth a copy in f32: many queries read it, or vectors do not lie side by side.
        let read = self.seen_of_page(first, rows);
        let (mut k_wide, mut v_wide) = (std::mem::take(&mut self.k), std::mem::take(&mut self.v));
        if whole_vectors {
            widen_vectors(l, k.as_chunks().0, &mut k_wide);
            let v = &v[read.start * dims..read.end * dims];
            widen_vectors(l, v.as_chunks().0, &mut v_wide[read.start * dv..]);
        } else {
            widen_rows(k, rows, &mut k_wide[..dims * nv]);
            let v = &v[read.start * dims..read.end * dims];
            widen_rows(v, dims, &mut v_wide[read.start * dv..read.end * dv]);
        }
        let panels = Panels { k: &k_wide[..dims * nv], v: &v_wide[..rows * dv], nv, dv };
        self.attend_panels(l, job, panels, first);
        (self.k, self.v) = (k_wide, v_wide);
    }

    /// Rows of the page from row `first` of the run on that some query sees.
    fn seen_of_page(&self, first: usize, rows: usize) -> Range<usize> {
        let each = self.seen.iter().map(|seen| in_page(seen, first, rows));
        let each = each.filter(|seen| !seen.is_empty());
        each.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
    }

    #[inline(always)]
    fn attend_panels<L: Lanes, E: Element>(
        &mut self,
        l: L,
        job: &Job<'_>,
        panels: Panels<'_, E>,
        first: usize,
    ) {
        let AttentionShape { head_dim, softcap, .. } = *job.problem.shape;
        let page_rows = job.problem.kv.layout().page_rows;
        let (group, Panels { nv, dv, .. }) = (job.group(), panels);
        let queries = job.tile.queries;
        score(l, panels, &self.q[..queries * head_dim], head_dim, &mut self.scores);
        let mut row = 0;
        while row < self.seen.len() {
            let seen = in_page(&self.seen[row], first, page_rows);
            let alike =
                self.seen[row..].iter().take_while(|s| in_page(s, first, page_rows) == seen);
            let block = row * group..(row + alike.count()) * group;
            row = block.end / group;
            if seen.is_empty() {
                continue;
            }
            for q in block.clone() {
                let scores = &mut self.scores[q * nv..(q + 1) * nv];
                let state = (&mut self.max[q], &mut self.sums[q]);
                self.decay[q] = soften(l, scores, &seen, softcap, state);
            }
            let by = Weights {
                weights: &self.scores[block.start * nv..block.end * nv],
                decay: &self.decay[block.clone()],
                seen,
            };
            weigh(l, panels, &by, &mut self.weighted[block.start * dv..block.end * dv]);
        }
    }

    /// Merges the state of the split at hand to those before it.
    #[inline(always)]
    fn merge_split<L: Lanes>(&mut self, l: L, job: &Job<'_>) {
        let dv = job.problem.shape.head_dim.div_ceil(LANES);
        let whole = self.whole.chunks_exact_mut(dv * LANES);
        let split = self.weighted.chunks_exact(dv);
        for (q, (whole, split)) in whole.zip(split).enumerate().take(job.tile.queries) {
            let sum = l.sum(l.load(&self.sums[q]));
            let state = (&mut self.whole_max[q], &mut self.whole_sum[q], whole);
            merge_into(state, (self.max[q], sum, split.as_flattened()));
        }
    }

    /// Leaves the state of the split at hand to be merged, as the tile's states from `first` on.
    #[inline(always)]
    fn leave_state<L: Lanes>(&self, l: L, job: &Job<'_>, first: usize) {
        let dims = job.problem.shape.head_dim;
        let (sinks, states) = (job.sinks, first..first + job.tile.queries);
        // SAFETY: the states of a split are written by its one task.
        let (max, sum, weighted) = unsafe {
            let range = states.start * dims..states.end * dims;
            (sinks.max.range(states.clone()), sinks.sum.range(states), sinks.weighted.range(range))
        };
        max.copy_from_slice(&self.max[..job.tile.queries]);
        sum.iter_mut().zip(&self.sums).for_each(|(to, sums)| *to = l.sum(l.load(sums)));
        let split = self.weighted.chunks_exact(dims.div_ceil(LANES));
        for (to, from) in weighted.chunks_exact_mut(dims).zip(split) {
            to.copy_from_slice(&from.as_flattened()[..dims]);
        }
    }
}

/// Rows of the run in the page whose first is `first`, counted from there.
fn in_page(seen: &Range<usize>, first: usize, rows: usize) -> Range<usize> {
    let row = |r: usize| r.saturating_sub(first).min(rows);
    row(seen.start)..row(seen.end)
}

#[inline(always)]
fn widen_vectors<L: Lanes, E: Element>(l: L, from: &[[E; LANES]], to: &mut [Lane16]) {
    from.iter().zip(to).for_each(|(from, to)| l.store(E::load(l, from), to));
}

/// Rows of `length` elements to rows of whole vectors.
fn widen_rows<E: Element>(from: &[E], length: usize, to: &mut [Lane16]) {
    let to = to.chunks_exact_mut(length.div_ceil(LANES));
    for (from, to) in from.chunks_exact(length).zip(to) {
        to.as_flattened_mut().iter_mut().zip(from).for_each(|(to, x)| *to = x.widen());
    }
}

fn grow<T: Clone + Default>(memory: &mut Vec<T>, length: usize) {
    if memory.len() < length {
        memory.resize(length, T::default());
    }
}

/// Up to this many queries read a page as it is stored; more share a copy in f32.
const QUERIES_DIRECT: usize = 8;

/// Partial states of fewer floats are merged on the caller's thread.
const MERGE_FLOATS_ALONE: usize = 1 << 16;

//! A thread's memory, and how it attends: page by page, for all who look at a split.

use super::{Job, Problem, temper, write_tile};
use crate::attention::AttentionShape;
use crate::attention::lines::Lines;
use crate::attention::page::{
    Ahead, Lane16, Pack, Page, Panels, SCORES_LINE, Softcap, State, TILE_MAX, Vectors, Widen,
};
use crate::attention::plan::{Member, Task, Tile, hull, seen, split_rows, splits_of};
use crate::kv::{Element, GROUP_DIMS, Panel, Side, spread};
use crate::merge::merge_into;
use crate::simd::lanes::{LANES, on_lanes, sum};
use crate::{PageId, Run, Tempered};
use half::bf16;
use std::ops::Range;

/// A thread's memory.
#[derive(Debug, Default)]
pub(in crate::attention) struct Worker {
    /// Queries rotated for `rotated` and scaled, `[queries, head_dim]`; and packed, see [`Pack`].
    rows: Vec<f32>,
    pub(super) q: Vec<f32>,
    /// The shift and the temperature that they are rotated and scaled for.
    rotated: Option<(i32, f32)>,
    /// Rows of the run at hand that each query sees, and all of them.
    sights: Vec<Range<usize>>,
    common: Range<usize>,
    /// Rows of the page at hand that queries see: one range for all of them, or one for each.
    pub(super) seen: Vec<Range<usize>>,
    /// K and V of the page at hand in f32: `[head_dim, nv]` and `[page_rows, dv]`.
    pub(super) k: Lines,
    v: Lines,
    /// Of a few queries that are taken together, a line for each.
    pub(super) scores: Lines,
    /// State of the split at hand: `[queries]`, the sums by lane, and `[queries, dv]`.
    pub(super) max: Vec<f32>,
    pub(super) sums: Lines,
    weighted: Lines,
    /// States of the splits merged so far; `[queries, dv * 16]`.
    whole_max: Vec<f32>,
    pub(super) whole_sum: Vec<f32>,
    whole: Vec<f32>,
    /// Attention that rows of the runs got, see [`super::attention_mass`].
    pub(super) mass: Vec<u64>,
}

impl Worker {
    /// Does a task: one split, whose states wait to be merged, or all of them.
    pub(super) fn attend<E: Element>(&mut self, job: &Job<'_>, task: &Task) {
        self.begin(job);
        let split_rows = split_rows(job.problem.kv.layout().page_rows);
        let rows_of = |split: usize| split * split_rows..(split + 1) * split_rows;
        let tile = match *task {
            Task::Split { split, .. } => {
                self.attend_split::<E>(job, job.members, &rows_of(split));
                return self.leave_states(job);
            }
            Task::Whole { tile } => tile,
        };
        let positions = job.positions(job.tile);
        for (number, run) in job.runs(job.tile).iter().enumerate() {
            let alone = [Member { tile, run: number, state: 0 }];
            for split in splits_of(run, positions, job.problem.shape.window, split_rows) {
                self.attend_split::<E>(job, &alone, &rows_of(split));
                self.merge_split(job);
            }
            if let Some(by) = job.tempered(job.tile, number).filter(|by| by.runs == number + 1) {
                self.temper(job, by);
            }
        }
        let dims = job.problem.shape.head_dim;
        let padded = dims.next_multiple_of(LANES);
        let states = self.whole.chunks_exact(padded).map(|o| &o[..dims]).zip(&self.whole_sum);
        write_tile(job.problem, job.tile, &job.sinks.out, states.take(job.tile.queries));
    }

    /// Makes room for tiles of up to `queries`.
    pub(super) fn make_room(&mut self, queries: usize, problem: &Problem<'_>) {
        let dims = problem.shape.head_dim;
        let rows = problem.kv.layout().page_rows;
        let (nv, dv) = (rows.div_ceil(LANES), dims.div_ceil(LANES));
        self.sights.reserve(queries.saturating_sub(self.sights.len()));
        self.seen.reserve(queries.saturating_sub(self.seen.len()));
        grow(&mut self.rows, queries * dims);
        grow(&mut self.q, queries * dims);
        self.k.grow(dims * nv);
        self.v.grow(rows * dv);
        self.scores.grow(TILE_MAX * SCORES_LINE);
        grow(&mut self.max, queries);
        self.sums.grow(queries);
        self.weighted.grow(queries * dv);
        grow(&mut self.whole_max, queries);
        grow(&mut self.whole_sum, queries);
        grow(&mut self.whole, queries * dv * LANES);
    }

    /// Forgets the tile before.
    pub(super) fn begin(&mut self, job: &Job<'_>) {
        let queries = job.queries;
        let dv = job.problem.shape.head_dim.div_ceil(LANES);
        self.rotated = None;
        self.whole_max[..queries].fill(f32::NEG_INFINITY);
        self.whole_sum[..queries].fill(0.0);
        self.whole[..queries * dv * LANES].fill(0.0);
    }

    /// Rotates the queries of `tile` for a run with this shift, spreads them where keys are, and
    /// scales them, unless they are: false. They are put behind `before` others, which change with
    /// them.
    fn rotate<E: Element>(
        &mut self,
        job: &Job<'_>,
        (tile, before): (&Tile, usize),
        (shift, temperature): (i32, f32),
    ) -> bool {
        if job.queries == tile.queries && self.rotated == Some((shift, temperature)) {
            return false;
        }
        self.rotated = Some((shift, temperature));
        let AttentionShape { heads, head_dim, scale, softcap, .. } = *job.problem.shape;
        // A cap is for scores that are not divided.
        let scale = if softcap.is_some() { scale } else { scale / temperature };
        let queries = job.problem.queries;
        let width = job.group() * head_dim;
        let rows = tile.rows.clone().zip(job.positions(tile));
        let to = self.rows[before * head_dim..].chunks_exact_mut(width);
        for ((row, &position), to) in rows.zip(to) {
            let from = row * heads * head_dim + tile.kv_head * width;
            to.copy_from_slice(&queries.q[from..from + width]);
            queries.rope.rotate(i64::from(position) - i64::from(shift), to);
            if E::SCALED {
                to.chunks_exact_mut(head_dim).for_each(spread);
            }
            for x in to {
                *x *= scale;
            }
        }
        true
    }

    /// Packs the queries that were rotated.
    fn pack(&mut self, job: &Job<'_>) {
        let dims = job.problem.shape.head_dim;
        let (from, to) = (&self.rows[..job.queries * dims], &mut self.q[..job.queries * dims]);
        on_lanes(job.cpu, Pack { from, dims, to });
    }

    /// Rotates and packs the queries of a job's one tile for a run with this shift.
    pub(super) fn turn<E: Element>(&mut self, job: &Job<'_>, shift: i32) {
        if self.rotate::<E>(job, (job.tile, 0), (shift, 1.0)) {
            self.pack(job);
        }
    }

    /// Makes the states of `members`, whose runs are of the same pages there, over these rows.
    fn attend_split<E: Element>(&mut self, job: &Job<'_>, members: &[Member], rows: &Range<usize>) {
        let queries = job.queries;
        let dv = job.problem.shape.head_dim.div_ceil(LANES);
        let page_rows = job.problem.kv.layout().page_rows;
        self.max[..queries].fill(f32::NEG_INFINITY);
        self.sums[..queries].fill([0.0; LANES]);
        self.weighted[..queries * dv].fill([0.0; LANES]);
        let run = job.run(&members[0]);
        let temperature = job.tempered(job.tile, members[0].run).map_or(1.0, |by| by.temperature);
        let (mut before, mut turned) = (0, false);
        self.forget_sights();
        for member in members {
            let (tile, run) = (&job.tiles[member.tile], job.run(member));
            turned |= self.rotate::<E>(job, (tile, before), (run.shift, temperature));
            before += tile.queries;
            self.look(job, tile, run);
        }
        if turned {
            self.pack(job);
        }
        let union = self.seen_by_any(rows);
        let pages = if union.is_empty() {
            0..0
        } else {
            union.start / page_rows..union.end.div_ceil(page_rows)
        };
        for page in pages.clone() {
            let first = page * page_rows;
            let in_page = |row: usize| row.saturating_sub(first).min(page_rows);
            self.turn_to(first, page_rows);
            let sheet = Sheet {
                page: run.pages[page],
                next: pages.contains(&(page + 1)).then(|| run.pages[page + 1]),
                read: in_page(union.start)..in_page(union.end),
                hidden: run.hidden.map_or(&[], |hidden| hidden.of_page(page)),
                temperature,
            };
            self.attend_page::<E>(job, &sheet);
        }
    }

    /// Forgets the run before.
    pub(super) fn forget_sights(&mut self) {
        self.sights.clear();
        self.common = 0..usize::MAX;
    }

    /// Notes what the queries of a tile see of a run.
    pub(super) fn look(&mut self, job: &Job<'_>, tile: &Tile, run: &Run<'_>) {
        for &position in job.positions(tile) {
            let seen = seen(run, position, job.problem.shape.window);
            self.common = self.common.start.max(seen.start)..self.common.end.min(seen.end);
            self.sights.extend(std::iter::repeat_n(seen, job.group()));
        }
    }

    /// The smallest range of `rows` that holds what each query sees of them.
    pub(super) fn seen_by_any(&self, rows: &Range<usize>) -> Range<usize> {
        hull(self.sights.iter().map(|s| s.start.max(rows.start)..s.end.min(rows.end)))
    }

    /// Notes what queries see of the page that begins with row `first` of the run.
    pub(super) fn turn_to(&mut self, first: usize, page_rows: usize) {
        self.seen.clear();
        if self.common.start <= first && first + page_rows <= self.common.end {
            return self.seen.push(0..page_rows);
        }
        let in_page = |row: usize| row.saturating_sub(first).min(page_rows);
        self.seen.extend(self.sights.iter().map(|seen| in_page(seen.start)..in_page(seen.end)));
    }

    /// Adds the rows of one page.
    fn attend_page<E: Element>(&mut self, job: &Job<'_>, sheet: &Sheet<'_>) {
        let Sheet { page, next, ref read, .. } = *sheet;
        let (kv, layer, head) = (job.problem.kv, job.problem.queries.layer, job.tile.kv_head);
        let (rows, dims) = (kv.layout().page_rows, kv.layout().head_dim);
        let panels = |page| [Side::K, Side::V].map(|side| kv.panel::<E>(page, layer, side, head));
        let [k, v] = panels(page);
        let (nv, dv) = (rows.div_ceil(LANES), dims.div_ceil(LANES));
        let whole_vectors = rows.is_multiple_of(LANES) && dims.is_multiple_of(LANES);
        if whole_vectors && job.queries <= QUERIES_DIRECT {
            // Pages lie apart, so the machine does not see the next one coming.
            let next = next.map_or([Vectors::EMPTY; 2], |next| panels(next).map(vectors));
            let panels = Panels { k: vectors(k), v: vectors(v), next, nv, dv };
            return self.attend_panels(job, sheet, panels, [Ahead::NOTHING; 2]);
        }
        // Worth a copy in f32: many queries read it, or vectors do not lie side by side.
        let (mut k_wide, mut v_wide) = (std::mem::take(&mut self.k), std::mem::take(&mut self.v));
        let groups = kv.layout().groups();
        let v = Panel {
            numbers: &v.numbers[read.start * dims..read.end * dims],
            scales: &v.scales[read.start * groups..read.end * groups],
        };
        let (k_to, v_to) = (&mut k_wide[..dims * nv], &mut v_wide[read.start * dv..read.end * dv]);
        if whole_vectors {
            let (k, v) = (vectors(k), vectors(v));
            on_lanes(job.cpu, Widen { from: k, side: Side::K, line: nv, to: k_to });
            on_lanes(job.cpu, Widen { from: v, side: Side::V, line: dv, to: v_to });
        } else {
            widen_lines(k, rows, k_to, |d, row| d / GROUP_DIMS * rows + row);
            widen_lines(v, dims, v_to, |row, d| row * groups + d / GROUP_DIMS);
        }
        let whole = |numbers| Vectors { numbers, scales: &[] };
        let (k, v) = (whole(&k_wide[..dims * nv]), whole(&v_wide[..rows * dv]));
        let ahead = next
            .map_or([Ahead::NOTHING; 2], |next| panels(next).map(|panel| Ahead::of(panel.numbers)));
        self.attend_panels(job, sheet, Panels { k, v, next: [Vectors::EMPTY; 2], nv, dv }, ahead);
        (self.k, self.v) = (k_wide, v_wide);
    }

    fn attend_panels<E: Element>(
        &mut self,
        job: &Job<'_>,
        sheet: &Sheet<'_>,
        panels: Panels<'_, E>,
        ahead: [Ahead; 2],
    ) {
        let AttentionShape { head_dim, softcap, .. } = *job.problem.shape;
        let softcap = softcap.map(|cap| Softcap { cap, to: cap / sheet.temperature });
        let (queries, dv) = (job.queries, panels.dv);
        let state = State {
            max: &mut self.max[..queries],
            sums: &mut self.sums[..queries],
            weighted: &mut self.weighted[..queries * dv],
            scores: self.scores.as_chunks_mut().0,
        };
        let page = Page {
            panels,
            q: &self.q[..queries * head_dim],
            dims: head_dim,
            seen: &self.seen,
            hidden: sheet.hidden,
            ahead,
            softcap,
            state,
        };
        on_lanes(job.cpu, page);
    }

    /// Merges the states of the split at hand to those before it.
    fn merge_split(&mut self, job: &Job<'_>) {
        let dv = job.problem.shape.head_dim.div_ceil(LANES);
        let whole = self.whole.chunks_exact_mut(dv * LANES);
        let split = self.weighted.chunks_exact(dv);
        for (q, (whole, split)) in whole.zip(split).enumerate().take(job.tile.queries) {
            let state = (&mut self.whole_max[q], &mut self.whole_sum[q], whole);
            merge_into(state, (self.max[q], sum(&self.sums[q]), split.as_flattened()));
        }
    }

    /// Weighs what was merged so far, which is of tempered runs.
    fn temper(&mut self, job: &Job<'_>, by: Tempered) {
        let dv = job.problem.shape.head_dim.div_ceil(LANES);
        let whole = self.whole.chunks_exact_mut(dv * LANES).take(job.tile.queries);
        for (q, whole) in whole.enumerate() {
            temper(by, &mut self.whole_max[q], &mut self.whole_sum[q], whole);
        }
    }

    /// Leaves the states of the split at hand to be merged, each where its member's are.
    fn leave_states(&self, job: &Job<'_>) {
        let dims = job.problem.shape.head_dim;
        let dv = dims.div_ceil(LANES);
        let (sinks, mut before) = (job.sinks, 0);
        for member in job.members {
            let own = before..before + job.tiles[member.tile].queries;
            let states = member.state..member.state + own.len();
            // SAFETY: the states of a tile's split are written by the one task it is a member of.
            let (max_to, sum_to, weighted_to) = unsafe {
                let range = states.start * dims..states.end * dims;
                let (max, sum) = (sinks.max.range(states.clone()), sinks.sum.range(states));
                (max, sum, sinks.weighted.range(range))
            };
            max_to.copy_from_slice(&self.max[own.clone()]);
            let sums = self.sums[own.clone()].iter();
            sum_to.iter_mut().zip(sums).for_each(|(to, sums)| *to = sum(sums));
            let split = self.weighted[own.start * dv..own.end * dv].chunks_exact(dv);
            for (to, from) in weighted_to.chunks_exact_mut(dims).zip(split) {
                to.copy_from_slice(&from.as_flattened()[..dims]);
            }
            before = own.end;
        }
    }
}

/// One page of a run, as a tile reads it.
struct Sheet<'a> {
    page: PageId,
    /// The page that is read after it.
    next: Option<PageId>,
    /// Rows of the page that some query sees.
    read: Range<usize>,
    /// Rows that nobody sees, see [`Page::hidden`].
    hidden: &'a [u16],
    /// What scores are divided by.
    temperature: f32,
}

/// A panel of whole vectors as such.
pub(super) fn vectors<E: Element>(panel: Panel<'_, E>) -> Vectors<'_, E> {
    Vectors { numbers: panel.numbers.as_chunks().0, scales: panel.scales }
}

/// Lines of `length` numbers to lines of whole vectors. `scale_at` tells where the scale of a
/// number in a line stands.
pub(super) fn widen_lines<E: Element>(
    from: Panel<'_, E>,
    length: usize,
    to: &mut [Lane16],
    scale_at: impl Fn(usize, usize) -> usize,
) {
    let to = to.chunks_exact_mut(length.div_ceil(LANES));
    for (line, (numbers, to)) in from.numbers.chunks_exact(length).zip(to).enumerate() {
        for (i, (to, x)) in to.as_flattened_mut().iter_mut().zip(numbers).enumerate() {
            let scale = if E::SCALED { from.scales[scale_at(line, i)] } else { bf16::ZERO };
            *to = x.widen(scale);
        }
    }
}

pub(super) fn grow<T: Clone + Default>(memory: &mut Vec<T>, length: usize) {
    if memory.len() < length {
        memory.resize(length, T::default());
    }
}

/// Up to this many queries read a page as it is stored; more share a copy in f32.
pub(super) const QUERIES_DIRECT: usize = 8;

//! A thread's memory, and how it attends: page by page, for all who look at a split.

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]

use super::{Job, Problem, temper};
use crate::attention::AttentionShape;
use crate::attention::lines::Lines;
use crate::attention::page::{
    Ahead, Lane16, Pack, Page, Panels, SCORES_LINE, Softcap, State, TILE_MAX, Vectors, Widen,
};
use crate::attention::plan::{Member, Task, Tile, hull, seen, split_rows, splits_of};
use crate::kv::{Element, GROUP_DIMS, Panel, Side, spread};
use crate::merge::{MergeEach, States};
use crate::rope::Angles;
use crate::simd::lanes::{LANES, Lanes, OnLanes, on_lanes, sum};
use crate::{PageId, RopeTable, Run};
use half::bf16;
use std::ops::Range;

/// A thread's memory, in cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(in crate::attention) struct Worker {
    /// Queries rotated for `rotated` and scaled, `[queries, head_dim]`; and packed, see [`Pack`].
    rows: Vec<f32>,
    pub(super) q: Vec<f32>,
    /// The shift and the temperature that they are rotated and scaled for.
    rotated: Option<(i32, f32)>,
    /// Of each row of the task before, by how much it was turned, and the angles of that: tasks of other
    /// K/V heads turn by the same.
    turns: Vec<(i64, Angles)>,
    /// Rows of the run at hand that each query sees, and all of them.
    sights: Vec<Range<usize>>,
    common: Range<usize>,
    /// Rows of the page at hand that queries see: one range for all of them, or one for each.
    pub(super) seen: Vec<Range<usize>>,
    /// K and V of the page at hand in f32: `[head_dim, nv]` and `[page_rows, dv]`.
    pub(super) k: Lines,
    v: Lines,
    /// Of a few queries that are taken together, a line for each, and of the next few.
    pub(super) scores: Lines,
    /// State of the split at hand: `[queries]`, and the sums by lane.
    pub(super) max: Vec<f32>,
    pub(super) sums: Lines,
    /// `[queries]` and `[queries, dv]`: where it does not wait to be merged, sums and weighted values.
    sum: Vec<f32>,
    weighted: Lines,
    /// States of the splits merged so far, in the same shapes.
    whole_max: Vec<f32>,
    pub(super) whole_sum: Vec<f32>,
    whole: Lines,
    /// Attention that rows of the runs got, see [`super::attention_mass`].
    pub(super) mass: Vec<u64>,
}

impl Worker {
    /// Does a task: one split, whose states wait to be merged, or all of them.
    pub(super) fn attend<E: Element>(&mut self, job: &Job<'_>, task: &Task) {
        self.forget_rotation();
        let split_rows = split_rows(job.problem.kv.layout().page_rows);
        let rows_of = |split: usize| split * split_rows..(split + 1) * split_rows;
        let tile = match *task {
            Task::Split { split, ref states, .. } => {
                // SAFETY: a task's states are its own.
                let States { max, sum, weighted } = unsafe { job.sinks.states(states.clone()) };
                self.attend_split::<E>(job, job.members, &rows_of(split), weighted);
                max.copy_from_slice(&self.max[..job.queries]);
                return add_lanes(&self.sums, sum);
            }
            Task::Whole { tile } => tile,
        };
        let queries = job.queries;
        let dv = job.problem.shape.head_dim.div_ceil(LANES);
        self.whole_max[..queries].fill(f32::NEG_INFINITY);
        self.whole_sum[..queries].fill(0.0);
        self.whole[..queries * dv].fill([0.0; LANES]);
        let mut weighted = std::mem::take(&mut self.weighted);
        let positions = job.positions(job.tile);
        for (number, run) in job.runs(job.tile).iter().enumerate() {
            let alone = [Member { tile, run: number }];
            for split in splits_of(run, positions, job.problem.shape.window, split_rows) {
                let weighted = &mut weighted[..queries * dv];
                self.attend_split::<E>(job, &alone, &rows_of(split), weighted);
                self.merge_split(job, weighted);
            }
            if let Some(by) = job.tempered(job.tile, number).filter(|by| by.runs == number + 1) {
                temper(by, &mut self.whole(queries, dv));
            }
        }
        self.weighted = weighted;
        let (whole, sum) = (&self.whole[..queries * dv], &self.whole_sum[..queries]);
        job.sinks.write(job.problem, job.tile, whole, sum);
    }

    /// Makes room for tiles of up to `queries`.
    pub(super) fn make_room(&mut self, queries: usize, problem: &Problem<'_>) {
        let dims = problem.shape.head_dim;
        let rows = problem.kv.layout().page_rows;
        let (nv, dv) = (rows.div_ceil(LANES), dims.div_ceil(LANES));
        for ranges in [&mut self.sights, &mut self.seen] {
            ranges.clear();
            ranges.reserve(queries + apart::<Range<usize>>());
        }
        grow(&mut self.turns, queries);
        // Another call may be of other angles.
        self.turns.iter_mut().for_each(|(turned, _)| *turned = i64::MIN);
        grow(&mut self.rows, queries * dims);
        grow(&mut self.q, queries * dims);
        self.k.grow(dims * nv);
        self.v.grow(rows * dv);
        self.scores.grow(2 * TILE_MAX * SCORES_LINE);
        grow(&mut self.max, queries);
        self.sums.grow(queries);
        grow(&mut self.sum, queries);
        self.weighted.grow(queries * dv);
        grow(&mut self.whole_max, queries);
        grow(&mut self.whole_sum, queries);
        self.whole.grow(queries * dv);
    }

    /// Forgets the tile before.
    pub(super) fn forget_rotation(&mut self) {
        self.rotated = None;
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
        let turns = &mut self.turns[before / job.group()..];
        for (((row, &position), to), (turned, angles)) in rows.zip(to).zip(turns) {
            let from = row * heads * head_dim + tile.kv_head * width;
            to.copy_from_slice(&queries.q[from..from + width]);
            let by = i64::from(position) - i64::from(shift);
            if *turned != by {
                on_lanes(job.cpu, Find { rope: queries.rope, by, angles });
                *turned = by;
            }
            let (rope, spreads) = (queries.rope, E::SCALED);
            on_lanes(job.cpu, Turn { rope, angles, spreads, scale, heads: to });
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
    /// `weighted` becomes their weighted values.
    fn attend_split<E: Element>(
        &mut self,
        job: &Job<'_>,
        members: &[Member],
        rows: &Range<usize>,
        weighted: &mut [Lane16],
    ) {
        let queries = job.queries;
        let page_rows = job.problem.kv.layout().page_rows;
        self.max[..queries].fill(f32::NEG_INFINITY);
        self.sums[..queries].fill([0.0; LANES]);
        weighted.fill([0.0; LANES]);
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
            self.attend_page::<E>(job, &sheet, weighted);
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
    fn attend_page<E: Element>(
        &mut self,
        job: &Job<'_>,
        sheet: &Sheet<'_>,
        weighted: &mut [Lane16],
    ) {
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
            return self.attend_panels(job, sheet, (panels, [Ahead::NOTHING; 2]), weighted);
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
        let panels = Panels { k, v, next: [Vectors::EMPTY; 2], nv, dv };
        self.attend_panels(job, sheet, (panels, ahead), weighted);
        (self.k, self.v) = (k_wide, v_wide);
    }

    fn attend_panels<E: Element>(
        &mut self,
        job: &Job<'_>,
        sheet: &Sheet<'_>,
        (panels, ahead): (Panels<'_, E>, [Ahead; 2]),
        weighted: &mut [Lane16],
    ) {
        let AttentionShape { head_dim, softcap, .. } = *job.problem.shape;
        let softcap = softcap.map(|cap| Softcap { cap, to: cap / sheet.temperature });
        let queries = job.queries;
        let (now, next) = self.scores.as_chunks_mut().0.split_at_mut(TILE_MAX);
        let state = State {
            max: &mut self.max[..queries],
            sums: &mut self.sums[..queries],
            weighted,
            scores: [now, next],
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

    /// The states merged so far.
    fn whole(&mut self, queries: usize, dv: usize) -> States<'_> {
        States {
            max: &mut self.whole_max[..queries],
            sum: &mut self.whole_sum[..queries],
            weighted: &mut self.whole[..queries * dv],
        }
    }

    /// Merges the states of the split at hand to those before it.
    fn merge_split(&mut self, job: &Job<'_>, weighted: &[Lane16]) {
        let queries = job.queries;
        add_lanes(&self.sums, &mut self.sum[..queries]);
        let (max, sum) = (std::mem::take(&mut self.max), std::mem::take(&mut self.sum));
        let into = &mut self.whole(queries, weighted.len() / queries);
        on_lanes(job.cpu, MergeEach { into, max: &max, sum: &sum, weighted });
        (self.max, self.sum) = (max, sum);
    }
}

/// Angles to be found.
struct Find<'a> {
    rope: &'a RopeTable,
    by: i64,
    angles: &'a mut Angles,
}

impl OnLanes for Find<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        *self.angles = self.rope.angles(self.by);
    }
}

/// Heads to be turned by these angles, spread where keys are, and scaled.
struct Turn<'a> {
    rope: &'a RopeTable,
    angles: &'a Angles,
    spreads: bool,
    scale: f32,
    heads: &'a mut [f32],
}

impl OnLanes for Turn<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self { rope, angles, spreads, scale, heads } = self;
        rope.turn(angles, heads);
        if spreads {
            heads.chunks_exact_mut(rope.dims()).for_each(spread);
        }
        for x in heads {
            *x *= scale;
        }
    }
}

/// Sums of which each lane holds a part.
fn add_lanes(lanes: &[Lane16], sums: &mut [f32]) {
    sums.iter_mut().zip(lanes).for_each(|(to, lanes)| *to = sum(lanes));
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

/// Makes room for `length`, and for what keeps the cache lines of two threads apart.
pub(super) fn grow<T: Clone + Default>(memory: &mut Vec<T>, length: usize) {
    if memory.len() < length + apart::<T>() {
        memory.resize(length + apart::<T>(), T::default());
    }
}

/// As many elements as two cache lines hold: a machine may fetch them in pairs.
const fn apart<T>() -> usize {
    128_usize.div_ceil(size_of::<T>())
}

/// Up to this many queries read a page as it is stored; more share a copy in f32.
pub(super) const QUERIES_DIRECT: usize = 8;

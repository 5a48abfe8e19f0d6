//! The attention that rows get: each page's scores twice, first for the sums that divide them, then
//! to add up shares. No values are read.
//!
//! A share is rounded to a multiple of 2^-23, in the float that is 1 larger, and added up as a
//! whole number: sums of whole numbers depend on no order.

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]

use super::super::page::{
    Lane16, Panels, ScoresLine, Sight, Softcap, Vectors, Widen, largest, of_query, score, soften,
    tile, vectors as seen_vectors,
};
use super::worker::{QUERIES_DIRECT, vectors, widen_lines};
use super::{AttentionScratch, Job, Plan, Problem, Waiting, Worker};
use crate::cpu::Disjoint;
use crate::kv::{Element, GROUP_DIMS, Side};
use crate::simd::lanes::{LANES, Lanes, OnLanes, on_lanes, sum};
use crate::{Cpu, KvDtype};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Adds what every tile of the plan in `scratch` gives to `mass`.
pub(in super::super) fn attention_mass(
    cpu: &Cpu,
    problem: &Problem<'_>,
    scratch: &mut AttentionScratch,
    mass: &mut [u64],
) {
    let AttentionScratch { shares, plans, workers, .. } = scratch;
    let plan = plans.of(problem.call(cpu.threads(), *shares));
    workers.resize_with(cpu.threads().max(workers.len()), Worker::default);
    let queries = plan.tiles.iter().map(|tile| tile.queries).max().unwrap_or(0);
    for worker in workers.iter_mut() {
        worker.make_room(queries, problem);
        worker.mass.clear();
        worker.mass.resize(mass.len(), 0);
    }
    // Nothing is written by tiles: what they give stays with the worker.
    let mut nothing = Waiting::default();
    let sinks = nothing.sinks(&Plan::default(), 0, &mut []);
    let shared = Disjoint::new(&mut workers[..]);
    let next = AtomicUsize::new(0);
    cpu.for_each(cpu.threads().min(plan.tiles.len()), |w| {
        // SAFETY: `for_each` runs each w once, and w is below the number of workers.
        let worker = &mut unsafe { shared.range(w..w + 1) }[0];
        loop {
            let tile = next.fetch_add(1, Ordering::Relaxed);
            if tile >= plan.tiles.len() {
                break;
            }
            let job = Job::of_tile(cpu, problem, plan, tile, &sinks);
            match problem.kv.layout().dtype {
                KvDtype::F32 => worker.weigh_rows::<f32>(&job),
                KvDtype::F16 => worker.weigh_rows::<half::f16>(&job),
                KvDtype::Bf16 => worker.weigh_rows::<half::bf16>(&job),
                KvDtype::Int8 => worker.weigh_rows::<i8>(&job),
            }
        }
    });
    for worker in workers.iter() {
        mass.iter_mut().zip(&worker.mass).for_each(|(to, &from)| *to += from);
    }
}

impl Worker {
    /// Adds the shares of the tile's queries to this worker's mass.
    fn weigh_rows<E: Element>(&mut self, job: &Job<'_>) {
        self.forget_rotation();
        let queries = job.queries;
        self.max[..queries].fill(f32::NEG_INFINITY);
        self.sums[..queries].fill([0.0; LANES]);
        self.each_page::<E>(job, false);
        for q in 0..queries {
            let sum = sum(&self.sums[q]);
            self.whole_sum[q] = if sum > 0.0 { 1.0 / sum } else { 0.0 };
        }
        self.each_page::<E>(job, true);
    }

    /// Scores every page that the tile sees: to sum, or to count shares.
    fn each_page<E: Element>(&mut self, job: &Job<'_>, counts: bool) {
        let page_rows = job.problem.kv.layout().page_rows;
        let mut before = 0;
        for run in job.runs(job.tile) {
            self.turn::<E>(job, run.shift);
            self.forget_sights();
            self.look(job, job.tile, run);
            let union = self.seen_by_any(&(0..run.rows as usize));
            for page in union.start / page_rows..union.end.div_ceil(page_rows) {
                let first = page * page_rows;
                self.turn_to(first, page_rows);
                let hidden = run.hidden.map_or(&[][..], |hidden| hidden.of_page(page));
                let rows = before + first..before + (first + page_rows).min(run.rows as usize);
                self.weigh_page::<E>(job, (run.pages[page], hidden), counts.then_some(rows));
            }
            before += run.rows as usize;
        }
    }

    fn weigh_page<E: Element>(
        &mut self,
        job: &Job<'_>,
        (page, hidden): (crate::PageId, &[u16]),
        counts: Option<Range<usize>>,
    ) {
        let (kv, layer, head) = (job.problem.kv, job.problem.queries.layer, job.tile.kv_head);
        let (rows, dims) = (kv.layout().page_rows, kv.layout().head_dim);
        let k = kv.panel::<E>(page, layer, Side::K, head);
        let nv = rows.div_ceil(LANES);
        let whole_vectors = rows.is_multiple_of(LANES);
        if whole_vectors && job.queries <= QUERIES_DIRECT {
            return self.weigh_panel(job, hidden, (vectors(k), nv), counts);
        }
        // Worth a copy in f32: many queries read it, or vectors do not lie side by side.
        let mut wide = std::mem::take(&mut self.k);
        let to = &mut wide[..dims * nv];
        if whole_vectors {
            on_lanes(job.cpu, Widen { from: vectors(k), side: Side::K, line: nv, to });
        } else {
            widen_lines(k, rows, to, |d, row| d / GROUP_DIMS * rows + row);
        }
        let to = &wide[..dims * nv];
        let k = Vectors::<f32> { numbers: to, scales: &[] };
        self.weigh_panel(job, hidden, (k, nv), counts);
        self.k = wide;
    }

    fn weigh_panel<E: Element>(
        &mut self,
        job: &Job<'_>,
        hidden: &[u16],
        (k, nv): (Vectors<'_, E>, usize),
        counts: Option<Range<usize>>,
    ) {
        let shape = job.problem.shape;
        let queries = job.queries;
        let panels = Panels { k, v: Vectors::EMPTY, next: [Vectors::EMPTY; 2], nv, dv: 0 };
        on_lanes(
            job.cpu,
            Looks {
                panels,
                q: &self.q[..queries * shape.head_dim],
                dims: shape.head_dim,
                seen: &self.seen,
                hidden,
                softcap: shape.softcap.map(|cap| Softcap { cap, to: cap }),
                scores: self.scores.as_chunks_mut().0,
                max: &mut self.max[..queries],
                sums: &mut self.sums[..queries],
                counts: counts.map(|rows| (&self.whole_sum[..queries], &mut self.mass[rows])),
            },
        );
    }
}

/// One page that some queries look at.
struct Looks<'a, E> {
    panels: Panels<'a, E>,
    /// Rotated, scaled and packed.
    q: &'a [f32],
    dims: usize,
    seen: &'a [Range<usize>],
    hidden: &'a [u16],
    softcap: Option<Softcap>,
    scores: &'a mut [ScoresLine],
    /// `[queries]`: the largest scores and the sums so far, or in the end.
    max: &'a mut [f32],
    sums: &'a mut [Lane16],
    /// What shares are multiplied by, and where the rows of the page count them.
    counts: Option<(&'a [f32], &'a mut [u64])>,
}

impl<E: Element> OnLanes for Looks<'_, E> {
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { panels, q, dims, seen, hidden, softcap, scores, max, sums, counts } = self;
        let (nv, queries) = (panels.nv, max.len());
        let mut counts = counts;
        let mut first = 0;
        while first < queries {
            let last = first + tile::<L>(queries - first);
            score(l, panels, &q[first * dims..last * dims], last - first, scores);
            for (scores, i) in scores.iter_mut().zip(first..last) {
                let (scores, sight) =
                    (&mut scores[..nv], Sight { seen: of_query(seen, i), hidden });
                let now = largest(l, scores, sight, softcap, max[i]);
                if let Some((by, mass)) = &mut counts {
                    soften(l, scores, sight, max[i], (0.0, &mut [0.0; LANES]));
                    count(scores, sight, by[i], mass);
                } else {
                    let decay = if max[i] == now { 1.0 } else { exp(l, max[i] - now) };
                    max[i] = now;
                    soften(l, scores, sight, now, (decay, &mut sums[i]));
                }
            }
            first = last;
        }
    }
}

/// Adds the shares of one query's rows, which are their weights times `by`.
#[inline(always)]
fn count(weights: &[Lane16], sight: Sight<'_>, by: f32, mass: &mut [u64]) {
    for v in seen_vectors(sight.seen) {
        let end = mass.len().min((v + 1) * LANES);
        for (to, &weight) in mass[v * LANES..end].iter_mut().zip(&weights[v]) {
            *to += u64::from((1.0 + weight * by).to_bits() - 1.0_f32.to_bits());
        }
    }
}

/// `e^x` of one number.
#[inline(always)]
fn exp<L: Lanes>(l: L, x: f32) -> f32 {
    let mut to = [0.0; LANES];
    l.store(l.exp(l.splat(x)), &mut to);
    to[0]
}

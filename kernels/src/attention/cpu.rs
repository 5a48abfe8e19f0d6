//! Runs a plan: each task attends one tile of queries, over one split or over all it sees.

mod mass;
mod worker;

pub(super) use mass::attention_mass;
pub(super) use worker::Worker;

use super::plan::{Call, Member, Plan, Task, Tile};
use super::{AttentionScratch, AttentionShape, Queries};
use crate::cpu::Disjoint;
use crate::merge::merge_into;
use crate::{Cpu, KvDtype, KvPool, Run, Tempered};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use worker::grow;

/// What one call is asked.
pub(super) struct Problem<'a> {
    pub(super) kv: &'a KvPool,
    pub(super) shape: &'a AttentionShape,
    pub(super) queries: &'a Queries<'a>,
}

impl<'a> Problem<'a> {
    /// What its plan depends on.
    fn call(&self, threads: usize, shares: bool) -> Call<'a> {
        let page_rows = self.kv.layout().page_rows;
        Call { looks: self.queries.looks, shape: *self.shape, page_rows, threads, shares }
    }
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
    let AttentionScratch { shares, plans, workers, states } = scratch;
    let plan = plans.of(problem.call(cpu.threads(), *shares));
    workers.resize_with(cpu.threads().max(workers.len()), Worker::default);
    let queries = plan.queries_max();
    // For all alike: which thread gets how much work is chance.
    for worker in workers.iter_mut() {
        worker.make_room(queries, problem);
    }
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
            let job = Job::new(cpu, problem, plan, task, &sinks);
            match problem.kv.layout().dtype {
                KvDtype::F32 => worker.attend::<f32>(&job, task),
                KvDtype::F16 => worker.attend::<half::f16>(&job, task),
                KvDtype::Bf16 => worker.attend::<half::bf16>(&job, task),
                KvDtype::Int8 => worker.attend::<i8>(&job, task),
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
        let tempered = problem.queries.looks.spans[tile.span].tempered;
        for split in 0..=later_max.len() / tile.queries {
            for q in 0..tile.queries {
                let own = &mut weighted[q * dims..(q + 1) * dims];
                if split > 0 {
                    let i = (split - 1) * tile.queries + q;
                    let o = &later[i * dims..(i + 1) * dims];
                    merge_into((&mut max[q], &mut sum[q], own), (later_max[i], later_sum[i], o));
                }
                let own = &mut weighted[q * dims..(q + 1) * dims];
                if let Some(by) = tempered.filter(|_| split + 1 == tile.tempered) {
                    temper(by, &mut max[q], &mut sum[q], own);
                }
            }
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

/// Turns the state of tempered runs into the one that their scale gives them: all scores moved from
/// their log-sum-exp `l` to `S T l`.
fn temper(by: Tempered, max: &mut f32, sum: &mut f32, weighted: &mut [f32]) {
    if *sum > 0.0 {
        let moved = by.scale * by.temperature * (*max + sum.ln());
        for x in weighted {
            *x /= *sum;
        }
        (*max, *sum) = (moved, 1.0);
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

/// One task of one call.
#[derive(Clone, Copy)]
struct Job<'a> {
    cpu: &'a Cpu,
    problem: &'a Problem<'a>,
    tiles: &'a [Tile],
    /// Those who look at one split; none where a tile is attended whole.
    members: &'a [Member],
    /// The tile, or the first member's: all are of its K/V head.
    tile: &'a Tile,
    /// Queries of all who look.
    queries: usize,
    sinks: &'a Sinks<'a>,
}

impl<'a> Job<'a> {
    fn new(
        cpu: &'a Cpu,
        problem: &'a Problem<'a>,
        plan: &'a Plan,
        task: &Task,
        sinks: &'a Sinks<'a>,
    ) -> Self {
        match task {
            Task::Whole { tile } => Self::of_tile(cpu, problem, plan, *tile, sinks),
            Task::Split { members, .. } => {
                let members = &plan.members[members.clone()];
                let queries = members.iter().map(|member| plan.tiles[member.tile].queries).sum();
                let of_first = Self::of_tile(cpu, problem, plan, members[0].tile, sinks);
                Self { members, queries, ..of_first }
            }
        }
    }

    /// A tile attended whole.
    fn of_tile(
        cpu: &'a Cpu,
        problem: &'a Problem<'a>,
        plan: &'a Plan,
        tile: usize,
        sinks: &'a Sinks<'a>,
    ) -> Self {
        let (tiles, tile) = (&plan.tiles[..], &plan.tiles[tile]);
        Self { cpu, problem, tiles, members: &[], tile, queries: tile.queries, sinks }
    }

    /// The runs that a tile's rows look at.
    fn runs(&self, tile: &Tile) -> &'a [Run<'a>] {
        self.problem.queries.looks.spans[tile.span].runs
    }

    fn positions(&self, tile: &Tile) -> &'a [u32] {
        &self.problem.queries.looks.positions[tile.rows.clone()]
    }

    /// The temperature and scale of a tile's run number `run`.
    fn tempered(&self, tile: &Tile, run: usize) -> Option<Tempered> {
        let tempered = self.problem.queries.looks.spans[tile.span].tempered;
        tempered.filter(|tempered| run < tempered.runs)
    }

    /// The run that a member looks at.
    fn run(&self, member: &Member) -> &'a Run<'a> {
        &self.runs(&self.tiles[member.tile])[member.run]
    }

    fn group(&self) -> usize {
        self.problem.shape.heads / self.problem.shape.kv_heads
    }
}

/// Partial states of fewer floats are merged on the caller's thread.
const MERGE_FLOATS_ALONE: usize = 1 << 16;

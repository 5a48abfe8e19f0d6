//! Runs a plan: each task attends one tile of queries, over one split or over all it sees.

mod mass;
mod states;
mod worker;

pub(super) use mass::attention_mass;
pub(super) use states::Waiting;
pub(super) use worker::Worker;

use super::plan::{Call, Member, Plan, Task, Tile};
use super::{AttentionScratch, AttentionShape, Queries};
use crate::cpu::Disjoint;
use crate::simd::lanes::LANES;
use crate::{Cpu, KvDtype, KvPool, Run, Tempered};
use states::{Sinks, merge_states, temper};
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

/// Runs the call's plan. Any thread may do any task: each result and each state is written
/// by one task alone.
pub(super) fn attention(
    cpu: &Cpu,
    problem: &Problem<'_>,
    scratch: &mut AttentionScratch,
    out: &mut [f32],
) {
    let AttentionScratch { shares, plans, workers, waiting } = scratch;
    let plan = plans.of(problem.call(cpu.threads(), *shares));
    workers.resize_with(cpu.threads().max(workers.len()), Worker::default);
    let queries = plan.queries_max();
    // For all alike: which thread gets how much work is chance.
    for worker in workers.iter_mut() {
        worker.make_room(queries, problem);
    }
    let sinks = waiting.sinks(plan, problem.shape.head_dim.div_ceil(LANES), out);
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
    merge_states(cpu, problem, plan, &sinks);
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

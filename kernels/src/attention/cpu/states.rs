//! Partial states that wait to be merged, their merge, and results.

use super::{Plan, Problem, Tile};
use crate::attention::AttentionShape;
use crate::attention::lines::Lines;
use crate::attention::page::Lane16;
use crate::cpu::Disjoint;
use crate::merge::{MergeEach, States};
use crate::simd::lanes::{LANES, on_lanes};
use crate::{Cpu, Tempered};
use std::ops::Range;

/// Memory of partial states, task by task.
#[derive(Debug, Default)]
pub(in super::super) struct Waiting {
    max: Vec<f32>,
    sum: Vec<f32>,
    /// `[states, dv]`.
    weighted: Lines,
}

impl Waiting {
    /// Where a plan's tasks write, with as many states.
    pub(super) fn sinks<'a>(&'a mut self, plan: &Plan, dv: usize, out: &'a mut [f32]) -> Sinks<'a> {
        super::grow(&mut self.max, plan.states);
        super::grow(&mut self.sum, plan.states);
        self.weighted.grow(plan.states * dv);
        Sinks {
            out: Disjoint::new(out),
            max: Disjoint::new(&mut self.max),
            sum: Disjoint::new(&mut self.sum),
            weighted: Disjoint::new(&mut self.weighted),
            dv,
        }
    }
}

/// Where tasks write: places that no two share.
pub(super) struct Sinks<'a> {
    out: Disjoint<'a, f32>,
    max: Disjoint<'a, f32>,
    sum: Disjoint<'a, f32>,
    weighted: Disjoint<'a, Lane16>,
    /// Vectors of a state.
    dv: usize,
}

impl Sinks<'_> {
    /// Some of the states.
    ///
    /// # Safety
    /// They are the caller's alone.
    pub(super) unsafe fn states(&self, range: Range<usize>) -> States<'_> {
        let vectors = range.start * self.dv..range.end * self.dv;
        // SAFETY: the caller's promise.
        unsafe {
            States {
                max: self.max.range(range.clone()),
                sum: self.sum.range(range),
                weighted: self.weighted.range(vectors),
            }
        }
    }

    /// Writes `weighted / sum` of every query of a tile to its place in `out`.
    pub(super) fn write(
        &self,
        problem: &Problem<'_>,
        tile: &Tile,
        weighted: &[Lane16],
        sum: &[f32],
    ) {
        let AttentionShape { heads, kv_heads, head_dim, .. } = *problem.shape;
        let group = heads / kv_heads;
        for (q, (weighted, &sum)) in weighted.chunks_exact(self.dv).zip(sum).enumerate() {
            let (row, head) = (tile.rows.start + q / group, tile.kv_head * group + q % group);
            let at = (row * heads + head) * head_dim;
            // SAFETY: one task or merge writes a tile, and tiles share no (row, head).
            let to = unsafe { self.out.range(at..at + head_dim) };
            // Adding 0 makes -0 of a merge the 0 it is without.
            let by = if sum == 0.0 { 0.0 } else { 1.0 / sum };
            to.iter_mut().zip(weighted.as_flattened()).for_each(|(to, x)| *to = x * by + 0.0);
        }
    }
}

/// Merges the states of tiles that were cut into splits, in order, and writes their results.
pub(super) fn merge_states(cpu: &Cpu, problem: &Problem<'_>, plan: &Plan, sinks: &Sinks<'_>) {
    let merge_tile = |tile: &Tile| {
        // SAFETY: all tasks are done, and what they left of a tile is its own.
        let block = |start: usize| unsafe { sinks.states(start..start + tile.queries) };
        let mut blocks = plan.blocks[tile.blocks.clone()].iter().map(|&start| block(start));
        let Some(mut own) = blocks.next() else { return };
        let tempered = problem.queries.looks.spans[tile.span].tempered;
        for merged in 1..=tile.blocks.len() {
            if let Some(by) = tempered.filter(|_| merged == tile.tempered) {
                temper(by, &mut own);
            }
            if let Some(States { max, sum, weighted }) = blocks.next() {
                on_lanes(cpu, MergeEach { into: &mut own, max, sum, weighted });
            }
        }
        sinks.write(problem, tile, own.weighted, own.sum);
    };
    let floats = plan.states * sinks.dv * LANES;
    let grain = if floats < MERGE_FLOATS_ALONE { plan.tiles.len() } else { 1 };
    cpu.split(plan.tiles.len(), grain, |tiles| plan.tiles[tiles].iter().for_each(merge_tile));
}

/// Turns the states of tempered runs into those that their scale gives them: all scores moved from
/// their log-sum-exp `l` to `S T l`.
pub(super) fn temper(by: Tempered, States { max, sum, weighted }: &mut States<'_>) {
    let dv = weighted.len() / max.len();
    let states = max.iter_mut().zip(sum.iter_mut()).zip(weighted.chunks_exact_mut(dv));
    for ((max, sum), weighted) in states {
        if *sum > 0.0 {
            let moved = by.scale * by.temperature * (*max + sum.ln());
            for x in weighted.as_flattened_mut() {
                *x /= *sum;
            }
            (*max, *sum) = (moved, 1.0);
        }
    }
}

/// Partial states of fewer floats are merged on the caller's thread.
const MERGE_FLOATS_ALONE: usize = 1 << 16;

//! How long values are: for each row of runs, over all heads and dims, the sum of `V^2`. What a row
//! adds to whoever attends to it is that long, times the attention.

pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use crate::kv::RowOfHead;
use crate::{Cpu, KvPool, Run};

/// Fills `out` with the squared norm of V in `layer` of each row of `runs`, one run after another.
///
/// # Panics
/// When lengths disagree, or a run lies outside the pool.
pub fn kv_norm(cpu: &Cpu, kv: &KvPool, layer: usize, runs: &[Run<'_>], out: &mut [f64]) {
    let rows: usize = runs.iter().map(|run| run.rows as usize).sum();
    assert_eq!(out.len(), rows, "a place for every row of the runs");
    let (heads, page_rows) = (kv.layout().kv_heads, kv.layout().page_rows);
    cpu.split_rows(out, 1, GRAIN, |first, out| {
        let mut left = out.iter_mut();
        let mut passed = first;
        for run in runs {
            let rows = run.rows as usize;
            let begin = passed.min(rows);
            passed -= begin;
            for (row, to) in (begin..rows).zip(&mut left) {
                let (page, row) = (run.pages[row / page_rows], row % page_rows);
                let squares =
                    (0..heads).map(|head| kv.square(RowOfHead { page, layer, head, row }));
                *to = squares.sum();
            }
        }
    });
}

/// Rows a thread takes at least: fewer are not worth waking it.
const GRAIN: usize = 64;

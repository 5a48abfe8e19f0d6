//! How the work of one call is cut: tiles of rows that share K and V, and the splits they see.
//!
//! Owns what no result depends on: the cut is made for speed alone.

use super::{AttentionShape, Queries, SPLIT_ROWS};
use crate::Run;
use std::ops::Range;

/// The work of one call.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Rows that share K and V.
    pub(super) tiles: Vec<Tile>,
    /// What threads take, one at a time.
    pub(super) tasks: Vec<Task>,
    /// Partial states that tasks leave to be merged, one for each query and split.
    pub(super) states: usize,
    /// Threads worth waking.
    pub(super) threads: usize,
}

/// Rows of a span and one K/V head. Its queries are `rows * group`: rows outermost, then the
/// heads that share the K/V head.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    pub(super) span: usize,
    pub(super) rows: Range<usize>,
    pub(super) kv_head: usize,
    /// Queries of the tile.
    pub(super) queries: usize,
    /// The tile's states, a block of `queries` for each split in order. Empty: one task does the
    /// whole tile and writes its result.
    pub(super) states: Range<usize>,
    /// How many of these blocks are of tempered runs: the first.
    pub(super) tempered: usize,
}

/// One piece of work.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// Index of the tile.
    pub(super) tile: usize,
    /// One split, and where its states go. None: all splits.
    pub(super) part: Option<Part>,
}

/// One split of a tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Index of the run in its span.
    pub(super) run: usize,
    /// Index of the split in its run.
    pub(super) split: usize,
    /// Index of the first of the tile's states.
    pub(super) state: usize,
}

impl Plan {
    /// Plans a call. Allocates only where a call is larger than all before it.
    pub(super) fn make(
        &mut self,
        threads: usize,
        page_rows: usize,
        shape: &AttentionShape,
        queries: &Queries<'_>,
    ) {
        self.tiles.clear();
        self.tasks.clear();
        self.states = 0;
        let group = shape.heads / shape.kv_heads;
        let tile_rows = (TILE_QUERIES / group).max(1);
        for (span, rows) in queries.spans.iter().map(|s| s.rows.clone()).enumerate() {
            for start in rows.clone().step_by(tile_rows) {
                let rows = start..(start + tile_rows).min(rows.end);
                self.tiles.extend((0..shape.kv_heads).map(|kv_head| Tile {
                    span,
                    rows: rows.clone(),
                    kv_head,
                    queries: rows.len() * group,
                    states: 0..0,
                    tempered: 0,
                }));
            }
        }
        let split_rows = split_rows(page_rows);
        let looks = self.cut(threads, split_rows, shape, queries);
        // A thread wakes in the time of some hundred rows of K and V.
        self.threads = threads.min(self.tasks.len()).min(1 + looks / ROWS_PER_WAKE);
    }

    /// Makes the tasks and returns how many (query, row) pairs they hold, at most.
    fn cut(
        &mut self,
        threads: usize,
        split_rows: usize,
        shape: &AttentionShape,
        queries: &Queries<'_>,
    ) -> usize {
        let few = threads > 1 && self.tiles.len() < TILES_PER_THREAD * threads;
        let mut looks = 0;
        for (t, tile) in self.tiles.iter_mut().enumerate() {
            let runs = queries.spans[tile.span].runs;
            let positions = &queries.positions[tile.rows.clone()];
            let seen = |run: &Run<'_>| seen_by_any(run, positions, shape.window);
            looks += tile.queries * runs.iter().map(|run| seen(run).len()).sum::<usize>();
            let splits: usize =
                runs.iter().map(|run| splits_in(&seen(run), split_rows).len()).sum();
            let room = self.states + splits * tile.queries;
            if !few || splits < 2 || room * shape.head_dim > STATE_FLOATS_MAX {
                self.tasks.push(Task { tile: t, part: None });
                continue;
            }
            tile.states = self.states..room;
            let tempered = queries.spans[tile.span].tempered.map_or(0, |tempered| tempered.runs);
            let before = runs[..tempered].iter().map(|run| splits_in(&seen(run), split_rows).len());
            tile.tempered = before.sum();
            for (r, run) in runs.iter().enumerate() {
                for split in splits_of(run, positions, shape.window, split_rows) {
                    let part = Part { run: r, split, state: self.states };
                    self.tasks.push(Task { tile: t, part: Some(part) });
                    self.states += tile.queries;
                }
            }
        }
        looks
    }
}

/// Rows of a split: whole pages.
pub(super) fn split_rows(page_rows: usize) -> usize {
    (SPLIT_ROWS / page_rows).max(1) * page_rows
}

/// Rows of `run` that a query at `position` sees, hidden or not: composed positions `k <= position` with
/// `position - k < window`.
pub(super) fn seen(run: &Run<'_>, position: u32, window: Option<u32>) -> Range<usize> {
    if let Some(positions) = run.positions {
        let positions = &positions[..run.rows as usize];
        let end = positions.partition_point(|&p| p <= position);
        let left = |p: u32| window.is_some_and(|w| u64::from(p) + u64::from(w) <= position.into());
        return positions.partition_point(|&p| left(p)).min(end)..end;
    }
    let rows = i64::from(run.rows);
    let own = i64::from(position) - i64::from(run.start); // the row at the query's own position
    let end = (own + 1).clamp(0, rows);
    let start = window.map_or(0, |w| (own + 1 - i64::from(w)).clamp(0, end));
    start as usize..end as usize
}

/// The smallest range of rows of `run` that holds what each of `positions` sees.
pub(super) fn seen_by_any(run: &Run<'_>, positions: &[u32], window: Option<u32>) -> Range<usize> {
    let each = positions.iter().map(|&p| seen(run, p, window)).filter(|r| !r.is_empty());
    each.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
}

/// Splits of `run` that one of `positions` may see.
pub(super) fn splits_of(
    run: &Run<'_>,
    positions: &[u32],
    window: Option<u32>,
    split_rows: usize,
) -> Range<usize> {
    splits_in(&seen_by_any(run, positions, window), split_rows)
}

fn splits_in(seen: &Range<usize>, split_rows: usize) -> Range<usize> {
    if seen.is_empty() { 0..0 } else { seen.start / split_rows..seen.end.div_ceil(split_rows) }
}

/// Queries of a tile: enough to make converting a page cheap, few enough for their states and
/// scores to stay in the second-level cache.
const TILE_QUERIES: usize = 64;

/// Fewer tiles than this times the threads are cut into splits, to give every thread some.
const TILES_PER_THREAD: usize = 4;

/// Floats that partial states may take: 16 MB.
const STATE_FLOATS_MAX: usize = 1 << 22;

/// (query, row) pairs below which a thread is not worth waking.
const ROWS_PER_WAKE: usize = 512;

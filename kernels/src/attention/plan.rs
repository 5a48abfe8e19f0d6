//! How the work of one call is cut: tiles of rows that share K and V, and the splits they see.
//!
//! Where spans look at the same pages, each from where it stands, a split of these pages is read once
//! for all of them: their queries, each rotated for its own run, are one task (the idea of Hydragen,
//! Juravsky et al. 2024, arXiv:2402.05099, at any positions).
//!
//! Owns what no result depends on: the cut is made for speed alone.

use super::{AttentionShape, Looks, SPLIT_ROWS};
use crate::{PageId, Run, Span};
use std::ops::Range;

/// What a plan depends on.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) looks: Looks<'a>,
    pub(super) shape: AttentionShape,
    pub(super) page_rows: usize,
    pub(super) threads: usize,
    /// Pages that several spans look at are read once for all.
    pub(super) shares: bool,
}

/// How the work of a call is cut.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Rows that share K and V.
    pub(super) tiles: Vec<Tile>,
    /// What threads take, one at a time.
    pub(super) tasks: Vec<Task>,
    /// Who looks, task by task.
    pub(super) members: Vec<Member>,
    /// Empty between calls: the splits that tiles see, and the first pages that spans look at.
    looks: Vec<Look>,
    firsts: Vec<(PageId, usize)>,
    /// Partial states that tasks leave to be merged, one for each query and split.
    pub(super) states: usize,
    /// The first states of blocks: a block is what a task leaves of one tile.
    pub(super) blocks: Vec<usize>,
    /// The most queries that a task has for several who look.
    shared_queries_max: usize,
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
    /// The tile's blocks of states, one for each split in order. Empty: one task does the whole tile
    /// and writes its result.
    pub(super) blocks: Range<usize>,
    /// How many of these are of tempered runs: the first.
    pub(super) tempered: usize,
}

/// One piece of work.
#[derive(Clone, Debug)]
pub(super) enum Task {
    /// All that a tile sees: its result is written.
    Whole {
        /// Index of the tile.
        tile: usize,
    },
    /// One split, for all who look at it: their states are left to be merged, side by side.
    Split {
        /// Who looks: indices of members, of one K/V head.
        members: Range<usize>,
        /// Index of the split in the run.
        split: usize,
        /// Their states.
        states: Range<usize>,
    },
}

/// A tile that looks at a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Index of the tile.
    pub(super) tile: usize,
    /// Index of the run in its span.
    pub(super) run: usize,
}

/// A split that a tile sees. In order, looks at the same pages stand side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Look {
    /// The first page of the split.
    page: PageId,
    split: usize,
    kv_head: usize,
    tile: usize,
    run: usize,
    /// Where the tile's states of the split are said to be.
    block: usize,
}

impl Plan {
    /// Plans a call. Allocates only where a call is larger than all before it.
    pub(super) fn make(&mut self, call: &Call<'_>) {
        self.tiles.clear();
        self.tasks.clear();
        self.members.clear();
        self.blocks.clear();
        self.states = 0;
        self.shared_queries_max = 0;
        let Call { shape, looks, threads, .. } = *call;
        let group = shape.heads / shape.kv_heads;
        let tile_rows = (TILE_QUERIES / group).max(1);
        for (span, rows) in looks.spans.iter().map(|s| s.rows.clone()).enumerate() {
            for start in rows.clone().step_by(tile_rows) {
                let rows = start..(start + tile_rows).min(rows.end);
                self.tiles.extend((0..shape.kv_heads).map(|kv_head| Tile {
                    span,
                    rows: rows.clone(),
                    kv_head,
                    queries: rows.len() * group,
                    blocks: 0..0,
                    tempered: 0,
                }));
            }
        }
        self.find_shared(call);
        let pairs = self.cut(call);
        self.gather(call);
        // A thread wakes in the time of some hundred rows of K and V.
        self.threads = threads.min(self.tasks.len()).min(1 + pairs / ROWS_PER_WAKE);
    }

    /// The most queries that a task has.
    pub(super) fn queries_max(&self) -> usize {
        let of_tiles = self.tiles.iter().map(|tile| tile.queries).max().unwrap_or(0);
        of_tiles.max(self.shared_queries_max)
    }

    /// Leaves in `firsts` the spans that look at a page which another span looks at too, in order.
    fn find_shared(&mut self, call: &Call<'_>) {
        let (firsts, spans) = (&mut self.firsts, call.looks.spans);
        firsts.clear();
        if !call.shares || spans.len() < 2 {
            return;
        }
        for (s, span) in spans.iter().enumerate() {
            firsts.extend(span.runs.iter().filter_map(|run| Some((*run.pages.first()?, s))));
        }
        firsts.sort_unstable();
        firsts.dedup();
        let is_shared = |i: usize, firsts: &[(PageId, usize)]| {
            let at = |j: usize| firsts.get(j).map(|first| first.0);
            at(i + 1) == at(i) || i.checked_sub(1).is_some_and(|before| at(before) == at(i))
        };
        let mut kept = 0;
        for i in 0..firsts.len() {
            if is_shared(i, firsts) {
                firsts[kept] = firsts[i];
                kept += 1;
            }
        }
        firsts.truncate(kept);
        firsts.sort_unstable_by_key(|first| first.1);
    }

    /// Makes the tasks of whole tiles, and the looks of others; returns how many (query, row) pairs
    /// they hold, at most.
    fn cut(&mut self, call: &Call<'_>) -> usize {
        let Call { shape, looks, page_rows, threads, .. } = *call;
        let split_rows = split_rows(page_rows);
        let few = threads > 1 && self.tiles.len() < TILES_PER_THREAD * threads;
        let mut pairs = 0;
        for (t, tile) in self.tiles.iter_mut().enumerate() {
            let runs = looks.spans[tile.span].runs;
            let positions = &looks.positions[tile.rows.clone()];
            let seen = |run: &Run<'_>| seen_by_any(run, positions, shape.window);
            pairs += tile.queries * runs.iter().map(|run| seen(run).len()).sum::<usize>();
            let splits: usize =
                runs.iter().map(|run| splits_in(&seen(run), split_rows).len()).sum();
            let room = self.states + splits * tile.queries;
            let shares = 2 * tile.queries <= TILE_QUERIES
                && self.firsts.binary_search_by_key(&tile.span, |first| first.1).is_ok();
            if !(few || shares) || splits < 2 || room * shape.head_dim > STATE_FLOATS_MAX {
                self.tasks.push(Task::Whole { tile: t });
                continue;
            }
            let begin = self.blocks.len();
            tile.blocks = begin..begin + splits;
            self.states = room;
            let tempered = looks.spans[tile.span].tempered.map_or(0, |tempered| tempered.runs);
            let before = runs[..tempered].iter().map(|run| splits_in(&seen(run), split_rows).len());
            tile.tempered = before.sum();
            for (r, run) in runs.iter().enumerate() {
                for split in splits_of(run, positions, shape.window, split_rows) {
                    let page = run.pages[split * (split_rows / page_rows)];
                    let (kv_head, block) = (tile.kv_head, self.blocks.len());
                    self.looks.push(Look { page, split, kv_head, tile: t, run: r, block });
                    self.blocks.push(0);
                }
            }
        }
        pairs
    }

    /// Makes tasks of the looks: those at the same pages together.
    fn gather(&mut self, call: &Call<'_>) {
        let Self { tiles, tasks, members, looks, blocks, shared_queries_max, .. } = self;
        let spans = call.looks.spans;
        let split_pages = split_rows(call.page_rows) / call.page_rows;
        if call.shares && spans.len() > 1 {
            looks.sort_unstable();
        }
        let (mut left, mut state) = (&looks[..], 0);
        while let Some((first, others)) = left.split_first() {
            let alike = |look: &&Look| {
                call.shares && reads_alike((*first, **look), split_pages, tiles, spans)
            };
            let (all, later) = left.split_at(1 + others.iter().take_while(alike).count());
            left = later;
            // Tasks of about the same size: a page that few queries read is read at great cost.
            let queries_of =
                |looks: &[Look]| looks.iter().map(|look| tiles[look.tile].queries).sum::<usize>();
            let held = queries_of(all);
            let each = all.len().div_ceil(held.div_ceil(TILE_QUERIES));
            for part in all.chunks(each) {
                let (begin, first_state) = (members.len(), state);
                for &Look { tile, run, block, .. } in part {
                    members.push(Member { tile, run });
                    blocks[block] = state;
                    state += tiles[tile].queries;
                }
                *shared_queries_max = (state - first_state).max(*shared_queries_max);
                let (members, states) = (begin..members.len(), first_state..state);
                tasks.push(Task::Split { members, split: first.split, states });
            }
        }
        looks.clear();
    }
}

/// Two looks may be one task: the same pages and head, rows hidden and scores divided alike.
fn reads_alike(
    (a, b): (Look, Look),
    split_pages: usize,
    tiles: &[Tile],
    spans: &[Span<'_>],
) -> bool {
    if (a.page, a.split, a.kv_head) != (b.page, b.split, b.kv_head) || a.tile == b.tile {
        return false;
    }
    let of = |look: Look| {
        let span = &spans[tiles[look.tile].span];
        let run = &span.runs[look.run];
        let pages = &run.pages[look.split * split_pages..];
        let tempered = span.tempered.filter(|by| look.run < by.runs).map(|by| by.temperature);
        (&pages[..pages.len().min(split_pages)], run.hidden.map(std::ptr::from_ref), tempered)
    };
    of(a) == of(b)
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
    hull(positions.iter().map(|&p| seen(run, p, window)))
}

/// The smallest range that holds all of these.
pub(super) fn hull(ranges: impl Iterator<Item = Range<usize>>) -> Range<usize> {
    let each = ranges.filter(|range| !range.is_empty());
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

/// Queries of a tile: enough to make converting a page cheap, few enough for their states to stay in
/// the second-level cache.
const TILE_QUERIES: usize = 96;

/// Fewer tiles than this times the threads are cut into splits, to give every thread some.
const TILES_PER_THREAD: usize = 4;

/// Floats that partial states may take: 16 MB.
const STATE_FLOATS_MAX: usize = 1 << 22;

/// (query, row) pairs below which a thread is not worth waking.
const ROWS_PER_WAKE: usize = 512;

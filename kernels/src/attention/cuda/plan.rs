//! How the work of one call is cut for the device: which kernel attends which rows, over which
//! rows of which runs, and what is merged afterwards.
//!
//! One plan serves every layer of a step that has the same window. All it says stands in words that
//! kernels read from device memory, so that a launch is the same whatever the plan.

use super::share::Shares;
use super::words::{Kind, MergeWords, RowWords, SegmentWords, Words};
use crate::attention::AttentionShape;
use crate::attention::plan::seen_by_any;
use crate::{KvDtype, KvLayout, Run, Span};
use std::ops::Range;

#[cfg(test)]
mod tests;

/// The work of one call.
#[derive(Debug)]
pub(super) struct Plan {
    /// Pages that several spans look at are read once for all.
    pub(super) shares: bool,
    words: Words,
    /// Partial states that are left to be merged.
    states: usize,
    /// How many positions the angles must reach.
    turns: usize,
    /// Rows of the first span's runs.
    rows: usize,
    tiles: Vec<Tile>,
    looks: Vec<Look>,
    /// Places of the runs of each span, one span after another.
    runs: Vec<i32>,
    /// Where a span's runs begin in `runs`.
    spans: Vec<usize>,
    shared: Shares,
    /// Parts of the tile at hand.
    parts: Vec<Part>,
    segments: Vec<SegmentWords>,
}

/// What is attended, and how much runs at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job<'a> {
    pub(super) layout: &'a KvLayout,
    pub(super) shape: &'a AttentionShape,
    /// Composed position of each batch row.
    pub(super) positions: &'a [u32],
    pub(super) spans: &'a [Span<'a>],
    /// Blocks that the device runs at once.
    pub(super) slots: usize,
    pub(super) way: Way,
}

/// Which kernels may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The best for each span.
    Best,
    /// The plain one.
    Plain,
    /// One that takes a row at a time, and all it sees.
    Rows,
}

/// Rows of a span that are attended together.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    pub(super) span: usize,
    pub(super) rows: Range<usize>,
    pub(super) kind: Kind,
}

/// Rows of a run that a tile looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Look {
    pub(super) tile: usize,
    /// Index of the run in its span.
    pub(super) run: usize,
    pub(super) begin: usize,
    pub(super) end: usize,
    /// Where these rows are read for several tiles: which reading that is.
    pub(super) shared: Option<usize>,
}

/// What leaves one state for each row of a tile.
#[derive(Clone, Debug)]
struct Part {
    /// Its own segments; none where it is read with others.
    segments: Range<usize>,
    shared: Option<usize>,
    is_tempered: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            shares: true,
            words: Words::default(),
            states: 0,
            turns: 0,
            rows: 0,
            tiles: Vec::new(),
            looks: Vec::new(),
            runs: Vec::new(),
            spans: Vec::new(),
            shared: Shares::default(),
            parts: Vec::new(),
            segments: Vec::new(),
        }
    }
}

impl Plan {
    /// Plans a call.
    pub(super) fn make(&mut self, job: &Job<'_>) {
        self.words.clear();
        (self.states, self.turns, self.rows) = (0, 0, 0);
        self.place_runs(job);
        self.cut_tiles(job);
        let codes = job.layout.dtype == KvDtype::Int8;
        let shares = self.shares && job.way == Way::Best && !codes;
        self.shared.find(shares, job, &self.tiles, &mut self.looks);
        let rows_each = self.rows_each(job);
        let mut look = 0;
        for t in 0..self.tiles.len() {
            let looks = look..look + self.looks[look..].partition_point(|look| look.tile == t);
            look = looks.end;
            self.cut_parts(job, t, looks, rows_each);
            self.put_tile(job, t);
        }
        self.put_shared(job);
        self.words.finish();
    }

    /// What the device reads.
    pub(super) fn words(&self) -> &[i32] {
        self.words.as_slice()
    }

    /// Items of a kind.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.words.count(kind)
    }

    /// Partial states to make room for.
    pub(super) fn states(&self) -> usize {
        self.states
    }

    /// Rows of the first span's runs.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Positions for which cos and sin are read.
    pub(super) fn turns(&self) -> usize {
        self.turns
    }

    fn place_runs(&mut self, job: &Job<'_>) {
        self.runs.clear();
        self.spans.clear();
        for span in job.spans {
            self.spans.push(self.runs.len());
            let mut before = 0;
            for run in span.runs {
                self.runs.push(self.words.run(run, before, job.layout.page_rows));
                before += run.rows as usize;
            }
            if self.spans.len() == 1 {
                self.rows = before;
            }
        }
    }

    /// Cuts spans into tiles, and notes what each sees.
    fn cut_tiles(&mut self, job: &Job<'_>) {
        self.tiles.clear();
        self.looks.clear();
        for (s, span) in job.spans.iter().enumerate() {
            let kind = job.kind(span.rows.len());
            let step = job.tile_rows(kind);
            for start in span.rows.clone().step_by(step) {
                let rows = start..(start + step).min(span.rows.end);
                let tile = self.tiles.len();
                for (r, run) in span.runs.iter().enumerate() {
                    let positions = &job.positions[rows.clone()];
                    let seen = seen_by_any(run, positions, job.shape.window);
                    if seen.is_empty() {
                        continue;
                    }
                    let turns = positions.iter().map(|&p| i64::from(p) - i64::from(run.shift));
                    let far = turns.map(|turn| turn.unsigned_abs() as usize).max().unwrap_or(0);
                    self.turns = self.turns.max(far + 1);
                    // Whole tiles of rows, but no row that may not be written yet.
                    let begin =
                        seen.start - if kind == Kind::Plain { 0 } else { seen.start % TILE };
                    self.looks.push(Look { tile, run: r, begin, end: seen.end, shared: None });
                }
                self.tiles.push(Tile { span: s, rows, kind });
            }
        }
    }

    /// For each kind, the rows of runs that a block takes, so that blocks are many and alike.
    fn rows_each(&self, job: &Job<'_>) -> [usize; Kind::ALL.len()] {
        let mut rows = [0; Kind::ALL.len()];
        let mut tiles = rows;
        self.tiles.iter().for_each(|tile| tiles[tile.kind as usize] += 1);
        for look in self.looks.iter().filter(|look| look.shared.is_none()) {
            rows[self.tiles[look.tile].kind as usize] += look.end - look.begin;
        }
        Kind::ALL.map(|kind| {
            let blocks = job.blocks(kind);
            let few = tiles[kind as usize] * blocks < job.slots / 4;
            let least = match kind {
                Kind::Prefill if !few => ROWS_LEAST_OF_MANY,
                Kind::Decode => ROWS_LEAST / 2,
                _ => ROWS_LEAST,
            };
            least.max((rows[kind as usize] * blocks).div_ceil(WAVES * job.slots))
        })
    }

    /// Cuts what a tile looks at into parts.
    fn cut_parts(
        &mut self,
        job: &Job<'_>,
        t: usize,
        looks: Range<usize>,
        rows_each: [usize; Kind::ALL.len()],
    ) {
        self.parts.clear();
        self.segments.clear();
        let tile = &self.tiles[t];
        let span = &job.spans[tile.span];
        let looks = &self.looks[looks];
        let own = looks.iter().filter(|look| look.shared.is_none());
        let rows: usize = own.map(|look| look.end - look.begin).sum();
        let each = rows_each[tile.kind as usize];
        let cuts = ((rows + each / 2) / each).max(1);
        let room = (self.states + (cuts + looks.len()) * tile.rows.len()) * job.width();
        let cuts = if room > STATE_FLOATS_MAX || job.way == Way::Rows { 1 } else { cuts };
        let size = rows.div_ceil(cuts).next_multiple_of(CUT_ROWS);
        let mut filled = 0;
        for look in looks {
            let by = span.tempered.filter(|by| look.run < by.runs);
            let is_tempered = by.is_some();
            if look.shared.is_some() {
                let end = self.segments.len();
                let (segments, shared) = (end..end, look.shared);
                self.parts.push(Part { segments, shared, is_tempered });
                continue;
            }
            let run = self.runs[self.spans[tile.span] + look.run];
            let by = by.map_or(1.0, |by| 1.0 / by.temperature);
            let mut begin = look.begin;
            while begin < look.end {
                let goes_on = self.parts.last().is_some_and(|part| {
                    part.shared.is_none() && part.is_tempered == is_tempered && filled < size
                });
                if !goes_on {
                    filled = 0;
                    let end = self.segments.len();
                    self.parts.push(Part { segments: end..end, shared: None, is_tempered });
                }
                let room = (begin + size - filled).next_multiple_of(CUT_ROWS);
                // What would be left is not worth a part.
                let end = if look.end <= room + size / 4 { look.end } else { room };
                self.segments.push(SegmentWords { run, begin, end, by });
                if let Some(part) = self.parts.last_mut() {
                    part.segments.end = self.segments.len();
                }
                filled += end - begin;
                begin = end;
            }
        }
    }

    /// Writes down the items of the tile at hand, and the merge of its parts.
    fn put_tile(&mut self, job: &Job<'_>, t: usize) {
        let Tile { span, ref rows, kind, .. } = self.tiles[t];
        let tempered = job.spans[span].tempered;
        let parts = self.parts.len();
        if parts == 0 {
            self.words.item(kind, job.rows(rows.clone(), |_| None), &[], 0);
        }
        let leaves = parts > 1 || self.parts.iter().any(|part| part.is_tempered);
        let first = self.states;
        for (p, part) in self.parts.iter().enumerate() {
            let state = |i: usize| leaves.then_some(first + i * parts + p);
            if let Some(reading) = part.shared {
                self.shared.note(reading, t, leaves.then_some((first + p, parts)));
                continue;
            }
            let segments = &self.segments[part.segments.clone()];
            let tiles = segments.iter().map(|s| (s.end - s.begin).div_ceil(TILE)).sum();
            self.words.item(kind, job.rows(rows.clone(), state), segments, tiles);
        }
        if !leaves {
            return;
        }
        self.states += parts * rows.len();
        let by = tempered.map_or(1.0, |by| by.scale * by.temperature);
        let early = self.parts.iter().filter(|part| part.is_tempered).count();
        for (i, row) in rows.clone().enumerate() {
            let first = first + i * parts;
            self.words.merge(&MergeWords { row, first, states: parts, tempered: early, by });
        }
    }

    /// Writes down what is read for several tiles.
    fn put_shared(&mut self, job: &Job<'_>) {
        for reading in self.shared.readings() {
            let members = self.shared.members(reading);
            let rows = members.iter().flat_map(|member| {
                let tile = &self.tiles[member.tile];
                let run = self.runs[self.spans[tile.span] + member.run];
                let state = |i: usize| member.states.map(|(first, step)| first + i * step);
                job.rows(tile.rows.clone(), state).map(move |row| RowWords { run, ..row })
            });
            let first = &self.tiles[members[0].tile];
            let span = &job.spans[first.span];
            let by = span.tempered.filter(|by| members[0].run < by.runs);
            let segment = SegmentWords {
                run: self.runs[self.spans[first.span] + members[0].run],
                begin: reading.rows.start,
                end: reading.rows.end,
                by: by.map_or(1.0, |by| 1.0 / by.temperature),
            };
            self.words.item(Kind::Shared, rows, &[segment], reading.rows.len().div_ceil(TILE));
        }
    }
}

impl<'a> Job<'a> {
    /// Query heads of a K/V head.
    pub(super) fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    /// The run that a look is at.
    pub(super) fn run(&self, tile: &Tile, run: usize) -> &'a Run<'a> {
        &self.spans[tile.span].runs[run]
    }

    /// Which kernel attends a span of so many rows.
    fn kind(&self, rows: usize) -> Kind {
        let KvLayout { head_dim, page_rows, dtype, .. } = *self.layout;
        let group = self.group();
        let pages = page_rows >= TILE && page_rows.is_power_of_two();
        let fast = pages && HEAD_DIMS.contains(&head_dim) && group <= SHARED_QUERIES;
        let few = rows * group <= DECODE_QUERIES || (rows == 1 && group <= 2 * DECODE_QUERIES);
        match dtype {
            KvDtype::F32 => Kind::Plain,
            _ if !fast || self.way != Way::Best => Kind::Plain,
            _ if few => Kind::Decode,
            // There are no tiles of codes.
            KvDtype::Int8 => Kind::Plain,
            KvDtype::F16 | KvDtype::Bf16 => Kind::Prefill,
        }
    }

    /// Rows of a tile.
    fn tile_rows(&self, kind: Kind) -> usize {
        match kind {
            Kind::Decode => (DECODE_QUERIES / self.group()).max(1),
            Kind::Prefill => prefill_queries(self.layout.head_dim) / self.group(),
            _ => 1,
        }
    }

    /// Blocks that take an item: one for each K/V head and eight queries, or each head.
    fn blocks(&self, kind: Kind) -> usize {
        match kind {
            Kind::Decode => self.shape.kv_heads * self.group().div_ceil(DECODE_QUERIES),
            Kind::Prefill | Kind::Shared => self.shape.kv_heads,
            Kind::Plain | Kind::Merge => self.shape.heads,
        }
    }

    /// Floats of a state.
    pub(super) fn width(&self) -> usize {
        self.shape.heads * self.layout.head_dim
    }

    /// Rows of a tile, each with its state.
    fn rows(
        &self,
        rows: Range<usize>,
        state: impl Fn(usize) -> Option<usize>,
    ) -> impl Iterator<Item = RowWords> {
        let positions = self.positions;
        let words = move |(i, row): (usize, usize)| RowWords {
            row,
            state: state(i),
            run: -1,
            position: positions[row],
        };
        rows.enumerate().map(words)
    }
}

/// Queries of a block of the prefill kernel.
pub(super) const fn prefill_queries(head_dim: usize) -> usize {
    if head_dim <= 128 { 128 } else { 64 }
}

/// Heads that the fast kernels are made for.
pub(super) const HEAD_DIMS: [usize; 5] = [64, 80, 96, 128, 256];

/// Queries of a block of the decode kernel.
pub(super) const DECODE_QUERIES: usize = 8;

/// Queries of a block of the kernel for shared rows.
pub(super) const SHARED_QUERIES: usize = 64;

/// Rows that lie side by side in any page of the fast kernels.
pub(super) const TILE: usize = 16;

/// Rows at which parts are cut: what the tile kernels take at once.
pub(super) const CUT_ROWS: usize = 64;

/// Rows of a part at least: fewer are not worth a state.
pub(super) const ROWS_LEAST: usize = 256;

/// The same where there are tiles enough to keep the device busy.
const ROWS_LEAST_OF_MANY: usize = 1024;

/// Items for each block that runs at once: the more, the better they fill the end.
pub(super) const WAVES: usize = 2;

/// Floats that partial states may take, unless they must be there: 64 MB.
pub(super) const STATE_FLOATS_MAX: usize = 1 << 24;

//! The words a plan is made of, as `attention.cuh` reads them.

use crate::Run;

/// Kinds of work, in the order of the plan's first words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Few queries over many rows.
    Decode,
    /// Tiles of queries of one span.
    Prefill,
    /// Queries of several spans that look at the same pages.
    Shared,
    /// One query row, any shape.
    Plain,
    /// Partial states of a row.
    Merge,
}

impl Kind {
    /// Every kind.
    pub(super) const ALL: [Self; 5] =
        [Self::Decode, Self::Prefill, Self::Shared, Self::Plain, Self::Merge];
}

/// A batch row that looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RowWords {
    pub(super) row: usize,
    /// The state it leaves; none: its result is written.
    pub(super) state: Option<usize>,
    /// Place of its run, where rows of an item look at different ones.
    pub(super) run: i32,
    pub(super) position: u32,
}

/// Rows of a run that are looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SegmentWords {
    /// Place of the run.
    pub(super) run: i32,
    pub(super) begin: usize,
    pub(super) end: usize,
    /// What scores are multiplied by.
    pub(super) by: f32,
}

/// States of a row, to be merged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct MergeWords {
    pub(super) row: usize,
    pub(super) first: usize,
    pub(super) states: usize,
    /// How many of them are of tempered runs: the first.
    pub(super) tempered: usize,
    /// What the log-sum-exp of these is multiplied by.
    pub(super) by: f32,
}

/// A plan in words.
#[derive(Debug, Default)]
pub(super) struct Words {
    words: Vec<i32>,
    /// Of each kind, until they are put behind the others.
    items: [Vec<[i32; ITEM_WORDS]>; Kind::ALL.len()],
}

impl Words {
    /// Forgets the plan before.
    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.words.resize(HEAD_WORDS, 0);
        self.items.iter_mut().for_each(Vec::clear);
    }

    /// All of them.
    pub(super) fn as_slice(&self) -> &[i32] {
        &self.words
    }

    /// How many items of a kind there are.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.items[kind as usize].len()
    }

    /// Adds a run; `before` rows of its span's runs come before its own. Returns its place.
    pub(super) fn run(&mut self, run: &Run<'_>, before: usize, page_rows: usize) -> i32 {
        let rows = run.rows as usize;
        let pages = self.place();
        let used = &run.pages[..rows.div_ceil(page_rows)];
        self.words.extend(used.iter().map(|page| word(page.0 as usize)));
        let positions = run.positions.map_or(-1, |positions| {
            let place = self.place();
            self.words.extend(positions[..rows].iter().map(|&p| word(p as usize)));
            place
        });
        let hidden = run.hidden.map_or(-1, |hidden| {
            let place = self.place();
            let words: Vec<u16> =
                (0..used.len()).flat_map(|page| hidden.of_page(page)).copied().collect();
            let pair = |pair: &[u16]| {
                let high = pair.get(1).copied().unwrap_or(0);
                (u32::from(pair[0]) | u32::from(high) << 16).cast_signed()
            };
            self.words.extend(words.chunks(2).map(pair));
            place
        });
        let place = self.place();
        let start = word(run.start as usize);
        let (rows, before) = (word(rows), word(before));
        self.words.extend([pages, rows, start, run.shift, positions, hidden, before, 0]);
        place
    }

    /// Adds an item: rows that look at segments, which are `tiles` tiles.
    pub(super) fn item(
        &mut self,
        kind: Kind,
        rows: impl IntoIterator<Item = RowWords>,
        segments: &[SegmentWords],
        tiles: usize,
    ) {
        let rows_at = self.place();
        for RowWords { row, state, run, position } in rows {
            let state = state.map_or(-1, word);
            self.words.extend([word(row), state, run, word(position as usize)]);
        }
        let count = (self.place() - rows_at) / ROW_WORDS;
        let segments_at = self.place();
        for &SegmentWords { run, begin, end, by } in segments {
            self.words.extend([run, word(begin), word(end), by.to_bits().cast_signed()]);
        }
        let (segments, tiles) = (word(segments.len()), word(tiles));
        let item = [rows_at, count, segments_at, segments, tiles, 0, 0, 0];
        self.items[kind as usize].push(item);
    }

    /// Adds states to be merged.
    pub(super) fn merge(&mut self, merge: &MergeWords) {
        let MergeWords { row, first, states, tempered, by } = *merge;
        let [row, first, states, tempered] = [row, first, states, tempered].map(word);
        let by = by.to_bits().cast_signed();
        self.items[Kind::Merge as usize].push([row, first, states, tempered, by, 0, 0, 0]);
    }

    /// Puts the items behind the others, those of most `tiles` first where blocks take unlike times.
    pub(super) fn finish(&mut self) {
        self.items[Kind::Prefill as usize].sort_by_key(|item| std::cmp::Reverse(item[4]));
        for kind in Kind::ALL {
            let place = self.place();
            let items = &self.items[kind as usize];
            self.words[2 * kind as usize] = word(items.len());
            self.words[2 * kind as usize + 1] = place;
            self.words.extend(items.as_flattened());
        }
    }

    /// Where the next word stands.
    fn place(&self) -> i32 {
        word(self.words.len())
    }
}

fn word(number: usize) -> i32 {
    i32::try_from(number).expect("a plan of less than 8 GB")
}

/// Words before all others: count and place of each kind, and some to spare.
const HEAD_WORDS: usize = 16;

const ITEM_WORDS: usize = 8;

const ROW_WORDS: i32 = 4;

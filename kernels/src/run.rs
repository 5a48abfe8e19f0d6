//! What attention looks at: runs of pages placed in a composition, and the batch rows that look.

use crate::PageId;
use std::ops::Range;

/// Consecutive rows of KV memory placed at consecutive composed positions.
///
/// Row `r` (`r < rows`) lives in `pages[r / page_rows]` at row `r % page_rows`, stands at composed
/// position `start + r`, and its key was rotated at position `start + r - shift` when it was
/// encoded. A query at composed position `p` therefore looks at this run rotated to `p - shift`.
///
/// Repaired rows stand where the rows stood that they replace: such a run gives the position of
/// each of its rows, and the runs whose rows it replaces hide them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    /// Pages in order; at least `rows / page_rows` rounded up.
    pub pages: &'a [PageId],
    /// Rows of the run.
    pub rows: u32,
    /// Composed position of row 0.
    pub start: u32,
    /// Composed position minus the position the keys were rotated at.
    pub shift: i32,
    /// Composed positions of the rows, ascending and at least `rows` of them, where they do not
    /// stand side by side; `start` then means nothing.
    pub positions: Option<&'a [u32]>,
    /// Rows that nobody sees.
    pub hidden: Option<&'a HiddenRows>,
}

impl<'a> Run<'a> {
    /// Rows side by side, none hidden.
    pub const fn new(pages: &'a [PageId], rows: u32, start: u32, shift: i32) -> Self {
        Self { pages, rows, start, shift, positions: None, hidden: None }
    }

    /// Composed position of row `r`.
    pub fn position(&self, r: u32) -> u32 {
        self.positions.map_or(self.start + r, |positions| positions[r as usize])
    }

    /// Nobody sees row `r`.
    pub fn hides(&self, r: u32) -> bool {
        self.hidden.is_some_and(|hidden| hidden.contains(r as usize))
    }
}

/// Rows of a run that nobody sees: a bit for each row of its pages, in words of 16 rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenRows {
    page_rows: usize,
    words: Vec<u16>,
}

impl HiddenRows {
    /// None of `rows` rows in pages of `page_rows`.
    pub fn none(rows: usize, page_rows: usize) -> Self {
        let words = rows.div_ceil(page_rows) * page_rows.div_ceil(WORD_ROWS);
        Self { page_rows, words: vec![0; words] }
    }

    /// Hides row `row` of the run.
    pub fn hide(&mut self, row: usize) {
        let (word, bit) = self.place(row);
        self.words[word] |= bit;
    }

    /// Row `row` of the run is hidden.
    pub fn contains(&self, row: usize) -> bool {
        let (word, bit) = self.place(row);
        self.words[word] & bit != 0
    }

    /// The words of the run's page number `page`: bit `i` of word `w` is row `16 w + i`.
    pub(crate) fn of_page(&self, page: usize) -> &[u16] {
        let words = self.page_rows.div_ceil(WORD_ROWS);
        &self.words[page * words..(page + 1) * words]
    }

    fn place(&self, row: usize) -> (usize, u16) {
        let (page, row) = (row / self.page_rows, row % self.page_rows);
        let word = page * self.page_rows.div_ceil(WORD_ROWS) + row / WORD_ROWS;
        (word, 1 << (row % WORD_ROWS))
    }
}

/// Rows of a word.
const WORD_ROWS: usize = u16::BITS as usize;

/// Consecutive batch rows that look at the same runs.
///
/// The mask is per row: a key at composed position `k` is visible to a query at `q` when
/// `k <= q` and, in a layer with a sliding window `w`, `q - k < w`. Rows of a span may see one
/// another: the span's own rows are already counted in the run they are written to.
#[derive(Clone, Debug, PartialEq)]
pub struct Span<'a> {
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// Every run the rows look at: in composition order, but that tempered runs come first.
    pub runs: &'a [Run<'a>],
    /// How the first runs are weighed against the others.
    pub tempered: Option<Tempered>,
}

impl<'a> Span<'a> {
    /// Rows that look at all runs alike.
    pub const fn new(rows: Range<usize>, runs: &'a [Run<'a>]) -> Self {
        Self { rows, runs, tempered: None }
    }
}

/// The first runs of a span, attended to with a temperature and a scale of their own (adaptive
/// parallel encoding, Yang et al. 2025, arXiv:2502.05431).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tempered {
    /// How many runs; at least one.
    pub runs: usize,
    /// Their scores are divided by it.
    pub temperature: f32,
    /// Their log-sum-exp is multiplied by it and by the temperature.
    pub scale: f32,
}

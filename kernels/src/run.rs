//! What attention looks at: runs of pages placed in a composition, and the batch rows that look.

use crate::PageId;
use std::ops::Range;

/// Consecutive rows of KV memory placed at consecutive composed positions.
///
/// Row `r` (`r < rows`) lives in `pages[r / page_rows]` at row `r % page_rows`, stands at composed
/// position `start + r`, and its key was rotated at position `start + r - shift` when it was
/// encoded. A query at composed position `p` therefore looks at this run rotated to `p - shift`.
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
}

/// Consecutive batch rows that look at the same runs.
///
/// The mask is per row: a key at composed position `k` is visible to a query at `q` when
/// `k <= q` and, in a layer with a sliding window `w`, `q - k < w`. Rows of a span may see one
/// another: the span's own rows are already counted in the run they are written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span<'a> {
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// Every run the rows look at, in composition order.
    pub runs: &'a [Run<'a>],
}

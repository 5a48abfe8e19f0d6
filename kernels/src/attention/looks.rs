//! What a batch looks at: the same in all layers, so that what is planned for one serves the others.

use crate::Span;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which rows of a batch look at which runs, from where.
///
/// Made once for a batch and given to every layer: the work is planned at the first layer of each
/// shape. What was borrowed cannot change meanwhile, and each has a number of its own, so no plan is
/// taken for another batch's.
#[derive(Clone, Copy, Debug)]
pub struct Looks<'a> {
    /// Composed position of each row.
    pub(super) positions: &'a [u32],
    /// Which rows look at which runs. Spans do not share rows.
    pub(super) spans: &'a [Span<'a>],
    /// No other has it.
    pub(super) number: u64,
}

impl<'a> Looks<'a> {
    /// Rows at these composed positions; spans in order, which share no rows.
    pub fn new(positions: &'a [u32], spans: &'a [Span<'a>]) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        Self { positions, spans, number: MADE.fetch_add(1, Ordering::Relaxed) }
    }
}

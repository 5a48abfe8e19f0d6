//! A batch less the rows that nothing more is asked of.
//!
//! Behind the last layer's K and V only rows with logits matter: of a prompt, the last one.

use crate::{Batch, TokenId};
use kernels::{RowAddr, Span};

/// Memory of narrowed batches, used again.
#[derive(Debug, Default)]
pub(crate) struct Narrow {
    tokens: Vec<TokenId>,
    positions: Vec<u32>,
    writes: Vec<RowAddr>,
    logits_rows: Vec<usize>,
    spans: Vec<Span<'static>>,
}

impl Narrow {
    /// Calls `forward` with the rows of `batch` that logits are wanted of.
    pub(crate) fn with(&mut self, batch: &Batch<'_>, forward: impl FnOnce(&Batch<'_>)) {
        self.tokens.clear();
        self.positions.clear();
        self.writes.clear();
        self.tokens.extend(batch.logits_rows.iter().map(|&row| batch.tokens[row]));
        self.positions.extend(batch.logits_rows.iter().map(|&row| batch.positions[row]));
        self.writes.extend(batch.logits_rows.iter().map(|&row| batch.writes[row]));
        self.logits_rows.clear();
        self.logits_rows.extend(0..self.tokens.len());

        let mut spans: Vec<Span<'_>> = std::mem::take(&mut self.spans);
        spans.extend(batch.spans.iter().filter_map(|span| {
            let before = |row| batch.logits_rows.partition_point(|&wanted| wanted < row);
            let rows = before(span.rows.start)..before(span.rows.end);
            (!rows.is_empty()).then(|| Span { rows, ..span.clone() })
        }));
        forward(&Batch {
            tokens: &self.tokens,
            positions: &self.positions,
            writes: &self.writes,
            spans: &spans,
            logits_rows: &self.logits_rows,
        });
        self.spans = emptied(spans);
    }
}

/// The memory of `vec`, empty, for elements of another lifetime: collecting what came of a vector
/// of elements of one size uses its memory again.
pub fn emptied<A, B>(mut vec: Vec<A>) -> Vec<B> {
    vec.clear();
    vec.into_iter().map(|_| unreachable!("it was emptied")).collect()
}

//! The seam between the engine and whatever computes logits: the decoder, or the simulator's
//! hash model.
//!
//! A model holds weights and the memory of KV pages. It does not know who owns a page.

use kernels::{Choice, PageId, RowAddr, Span};
use std::panic::resume_unwind;

/// Index in the vocabulary.
pub type TokenId = u32;

/// The numbers of a model that the engine plans with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelShape {
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// Longest composition, in positions.
    pub context_max: usize,
    /// Transformer layers.
    pub layers: usize,
    /// Token rows in a KV page.
    pub page_rows: usize,
    /// KV pages in the pool.
    pub pages: usize,
    /// Bytes of one page.
    pub page_bytes: usize,
    /// Bytes of K and V of one row, in all layers.
    pub row_bytes: usize,
    /// Rows a batch may hold.
    pub batch_rows_max: usize,
    /// Rows of one batch whose logits may be asked for.
    pub logits_rows_max: usize,
    /// Hash over everything a KV byte depends on besides tokens: weights, tokenizer, kv dtype,
    /// layout version.
    pub fingerprint: [u8; 32],
}

/// Rows to forward together. Rows belong to spans; spans cover all rows in order.
///
/// K and V of every row are written before any row attends, layer by layer.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// Token of each row.
    pub tokens: &'a [TokenId],
    /// Composed position of each row, where its query stands and its key is rotated.
    pub positions: &'a [u32],
    /// Where each row's K and V are written.
    pub writes: &'a [RowAddr],
    /// Who looks at what.
    pub spans: &'a [Span<'a>],
    /// Rows whose logits are wanted, ascending.
    pub logits_rows: &'a [usize],
}

impl Batch<'_> {
    /// The engine keeps these; a batch that breaks one is a bug of ours.
    pub(crate) fn check(&self, shape: &ModelShape) {
        let rows = self.tokens.len();
        assert!((1..=shape.batch_rows_max).contains(&rows), "{rows} rows in a batch");
        assert_eq!((self.positions.len(), self.writes.len()), (rows, rows), "parts of a batch");
        assert!(self.logits_rows.len() <= shape.logits_rows_max, "too many rows of logits");
        assert!(self.logits_rows.iter().all(|&row| row < rows), "logits of a row that is none");
        assert!(self.logits_rows.is_sorted_by(|a, b| a < b), "rows of logits ascend");
        let covered = self
            .spans
            .iter()
            .try_fold(0, |end, span| (span.rows.start == end).then_some(span.rows.end));
        assert_eq!(covered, Some(rows), "spans cover all rows in order");
    }
}

/// What a row weighs with those that attend to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The attention it gets: [`kernels::MASS_ONE`] is the whole attention of a row and head.
    Attention,
    /// In each layer, the attention it gets times the squared norm of its V, in units of 1/256:
    /// attention alone counts rows that are looked at and add next to nothing.
    Influence,
}

/// Why a model cannot compute any more: its device is gone.
///
/// What one of [`Model`]'s methods unwinds with then. Nobody could go on with what it would return,
/// and no caller between it and the engine's loop has anything to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelLost(pub String);

impl ModelLost {
    /// Unwinds to whoever catches it; unlike a panic it is no bug, and prints nothing.
    pub fn tell(self) -> ! {
        resume_unwind(Box::new(self))
    }
}

/// Computes logits over KV pages that it holds and the engine owns.
///
/// A method unwinds with [`ModelLost`] when there is nothing left to compute with.
pub trait Model: Send {
    /// The numbers to plan with.
    fn shape(&self) -> &ModelShape;

    /// Writes K and V of all rows and fills `logits` with `[logits_rows.len(), vocab]`.
    ///
    /// A row's result depends only on its token, its position and the rows it sees: never on
    /// the other rows of the batch.
    fn forward(&mut self, batch: &Batch<'_>, logits: &mut Vec<f32>);

    /// The same model where it can keep rows of logits to itself; none where they are at hand anyway.
    fn choices(&mut self) -> Option<&mut dyn Choices> {
        None
    }

    /// Does what [`Model::forward`] does, and adds to `mass` what each row of the one span's runs
    /// weighs with them, summed over heads and layers, one run after another.
    ///
    /// However rows are cut into calls, the sums are the same.
    fn weigh(&mut self, batch: &Batch<'_>, by: Weight, mass: &mut [u64], logits: &mut Vec<f32>);

    /// Fills `deviations` with how far V of each row at layer 1 would be from what pages hold, were
    /// layer 0 computed afresh: the sum of squares over heads and dims. `writes` names the rows
    /// that hold K and V; nothing is written. At layer 0 K and V depend on nothing but the token
    /// and its position, so what the runs hold of it is fresh already.
    fn deviate(&mut self, batch: &Batch<'_>, deviations: &mut [f64]);

    /// Copies the first `rows` rows of page `from` to page `to`.
    fn copy_rows(&mut self, from: PageId, to: PageId, rows: usize);

    /// Appends the KV bytes of the first `rows` rows of `pages` to `kv`, in the order that
    /// [`Model::digest`] hashes them in.
    fn read_rows(&self, pages: &[PageId], rows: usize, kv: &mut Vec<u8>);

    /// Writes the first `rows` rows of `pages` from what [`Model::read_rows`] gave.
    ///
    /// # Panics
    /// When `kv` is not of so many rows.
    fn fill_rows(&mut self, pages: &[PageId], rows: usize, kv: &[u8]);

    /// Hash of the KV bytes of the first `rows` rows of `pages` (all layers, K and V, in a
    /// canonical order that does not depend on what lies behind `rows`).
    fn digest(&self, pages: &[PageId], rows: usize) -> [u8; 32];
}

/// A model whose logits are far from the engine: it says what choices are made of, and hands out rows
/// where that is not enough. On a GPU ([`crate::GpuDecoder`]) a row is some hundred times as long.
pub trait Choices {
    /// Does what [`Model::forward`] does, but keeps the logits: fills `choices` with what a choice is
    /// made of for each row whose logits are wanted, at its temperature. Where every temperature is 0,
    /// no more is wanted than the likeliest token.
    fn forward_to_choices(
        &mut self,
        batch: &Batch<'_>,
        temperatures: &[f32],
        choices: &mut Vec<Choice>,
    );

    /// Makes `logits` those of the row that has this place among `logits_rows` of the batch that was
    /// forwarded last.
    ///
    /// # Panics
    /// When it may have none.
    fn logits_of(&mut self, place: usize, logits: &mut Vec<f32>);
}

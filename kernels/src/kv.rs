//! The layout of KV memory: the only place that turns (page, layer, head, row, dim) into an
//! address.
//!
//! A page holds `page_rows` token rows of *all* layers. Per layer it stores
//! `K [kv_heads, head_dim, page_rows]` (dims outermost, so that one vector register holds the same
//! dim of consecutive rows and scores need no horizontal sums) and
//! `V [kv_heads, page_rows, head_dim]`.

mod element;
mod pool;

pub(crate) use element::Element;
pub use pool::{KvPool, PoolError};
pub(crate) use pool::{RowOfHead, Writer};

use std::ops::Range;

/// Index of a page in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageId(pub u32);

/// One token row in a page: where its K and V are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowAddr {
    /// The page.
    pub page: PageId,
    /// The row in the page, below `page_rows`.
    pub row: u32,
}

/// Number format of stored K and V.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvDtype {
    /// 32-bit floats: tests and oracles.
    F32,
    /// IEEE half precision, saturating at ±65504.
    F16,
    /// bfloat16.
    Bf16,
}

impl KvDtype {
    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// Shape of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KvLayout {
    /// Transformer layers.
    pub layers: usize,
    /// K/V heads per layer.
    pub kv_heads: usize,
    /// Elements of one head.
    pub head_dim: usize,
    /// Token rows in a page.
    pub page_rows: usize,
    /// Number format.
    pub dtype: KvDtype,
}

impl KvLayout {
    /// Bytes of one page: K and V of every layer.
    pub const fn page_bytes(&self) -> usize {
        2 * self.layers * self.kv_heads * self.head_dim * self.page_rows * self.dtype.bytes()
    }

    /// Checks that a pool of this shape can be addressed, and returns [`Self::page_bytes`].
    fn checked_page_bytes(&self) -> Result<usize, PoolError> {
        let factors = [self.layers, self.kv_heads, self.head_dim, self.page_rows];
        if factors.contains(&0) || self.head_dim > HEAD_DIM_MAX {
            return Err(PoolError::Shape(*self));
        }
        factors
            .into_iter()
            .try_fold(2 * self.dtype.bytes(), usize::checked_mul)
            .ok_or(PoolError::TooLarge)
    }

    /// Elements of the K (or V) of one head of one page.
    pub(crate) const fn panel(&self) -> usize {
        self.head_dim * self.page_rows
    }

    /// Elements of one page: K and V of every layer.
    const fn page(&self) -> usize {
        2 * self.layers * self.kv_heads * self.panel()
    }

    /// Where K (`side` 0) or V (`side` 1) of a head lies in its page, in elements.
    fn panel_range(&self, layer: usize, side: usize, head: usize) -> Range<usize> {
        assert!(layer < self.layers && side < 2 && head < self.kv_heads, "inside the page");
        let start = ((layer * 2 + side) * self.kv_heads + head) * self.panel();
        start..start + self.panel()
    }
}

/// Longest head a pool holds; ops keep one head in an array of this length.
pub const HEAD_DIM_MAX: usize = 512;

#[cfg(test)]
mod tests;

//! The layout of KV memory: the only place that turns (page, layer, head, row, dim) into an
//! address.
//!
//! A page holds `page_rows` token rows of *all* layers. Per layer it stores
//! `K [kv_heads, head_dim, page_rows]` (dims outermost, so that one vector register holds the same
//! dim of consecutive rows and scores need no horizontal sums) and
//! `V [kv_heads, page_rows, head_dim]`. What one head has there is a panel. Where numbers are codes
//! the scales follow in the panel: `[groups, page_rows]` of K, `[page_rows, groups]` of V, a group
//! being [`GROUP_DIMS`] dims.

mod device;
mod element;
mod pool;
mod spread;

pub use device::{DEVICE_KV_VERSION, DeviceKvLayout};
pub(crate) use element::{Element, scale_of};
pub use pool::{KvPool, PoolError};
pub(crate) use pool::{Panel, RowOfHead, Side, Writer};
pub(crate) use spread::spread;

use half::bf16;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

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
    /// Signed bytes, every 32 dims of a row with a bfloat16 scale: off by at most 1/252 of the
    /// largest of the 32. Saturating at ±65504. Keys, and the queries that look at them, are first
    /// multiplied by a Hadamard matrix.
    Int8,
}

impl KvDtype {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Bf16, Self::Int8];

    /// The name taken and given by [`FromStr`] and [`fmt::Display`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// Bytes of one element, without its share of a scale.
    const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Int8 => 1,
        }
    }
}

impl fmt::Display for KvDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KvDtype {
    type Err = UnknownKvDtype;

    fn from_str(name: &str) -> Result<Self, UnknownKvDtype> {
        let known = Self::ALL.into_iter().find(|dtype| dtype.name() == name);
        known.ok_or_else(|| UnknownKvDtype(name.to_owned()))
    }
}

/// A name that is no number format's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKvDtype(pub String);

impl fmt::Display for UnknownKvDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown number format {:?}: f16, bf16, f32 or int8", self.0)
    }
}

impl std::error::Error for UnknownKvDtype {}

/// Dims of a row that have a scale in common.
pub(crate) const GROUP_DIMS: usize = 32;

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
        2 * self.layers * self.kv_heads * self.panel_bytes()
    }

    /// Bytes that K and V of one row of one head take in one layer.
    pub const fn row_bytes(&self) -> usize {
        2 * (self.head_dim * self.dtype.bytes() + self.groups() * size_of::<bf16>())
    }

    /// Bytes of K and V of `rows` rows, in all layers, as they are handed out and filled in: whole
    /// pages as they stand, and of the last one the rows alone.
    pub const fn bytes_of(&self, rows: usize) -> usize {
        let alone = (rows % self.page_rows) * self.layers * self.kv_heads * self.row_bytes();
        rows / self.page_rows * self.page_bytes() + alone
    }

    /// Checks that a pool of this shape can be addressed, and returns [`Self::page_bytes`].
    fn checked_page_bytes(&self) -> Result<usize, PoolError> {
        let factors = [self.layers, self.kv_heads, self.head_dim, self.page_rows];
        let largest = self.head_dim > HEAD_DIM_MAX || self.page_rows > PAGE_ROWS_MAX;
        if factors.contains(&0) || largest {
            return Err(PoolError::Shape(*self));
        }
        // A panel is padded by less than another row.
        let rows = self.page_rows.checked_add(1);
        let factors = [Some(self.layers), Some(self.kv_heads), Some(self.row_bytes()), rows];
        let product = factors.into_iter().try_fold(1_usize, |all, n| all.checked_mul(n?));
        product.map(|_| self.page_bytes()).ok_or(PoolError::TooLarge)
    }

    /// Scales of one row of one head: one for each group of dims where numbers are codes.
    pub(crate) const fn groups(&self) -> usize {
        match self.dtype {
            KvDtype::Int8 => self.head_dim.div_ceil(GROUP_DIMS),
            KvDtype::F32 | KvDtype::F16 | KvDtype::Bf16 => 0,
        }
    }

    /// Bytes of the K (or V) of one head of one page.
    const fn panel_bytes(&self) -> usize {
        self.scales_start() + self.page_rows * self.groups() * size_of::<bf16>()
    }

    /// Where the scales of a panel begin, in bytes: aligned, and the next panel with them.
    const fn scales_start(&self) -> usize {
        (self.head_dim * self.page_rows * self.dtype.bytes()).next_multiple_of(align_of::<bf16>())
    }

    /// Where a panel begins in its page, in bytes.
    fn panel_start(&self, layer: usize, side: Side, head: usize) -> usize {
        assert!(layer < self.layers && head < self.kv_heads, "inside the page");
        ((layer * 2 + side as usize) * self.kv_heads + head) * self.panel_bytes()
    }

    /// Calls `part` with each range of bytes of a page that holds something of its first `rows`
    /// rows: panel by panel, numbers before scales, in the order they are stored.
    fn parts_of_rows(&self, rows: usize, mut part: impl FnMut(Range<usize>)) {
        let numbers = (self.head_dim, self.dtype.bytes());
        let scales = (self.groups(), size_of::<bf16>());
        for panel in 0..2 * self.layers * self.kv_heads {
            let is_k = (panel / self.kv_heads).is_multiple_of(2);
            let start = panel * self.panel_bytes();
            for (start, (each, bytes)) in [(start, numbers), (start + self.scales_start(), scales)]
            {
                if is_k {
                    let lines = (0..each).map(|line| start + line * self.page_rows * bytes);
                    lines.for_each(|line| part(line..line + rows * bytes));
                } else {
                    part(start..start + rows * each * bytes);
                }
            }
        }
    }
}

/// Longest head a pool holds; ops keep one head in an array of this length.
pub const HEAD_DIM_MAX: usize = 512;

/// Most rows of a page; attention keeps the scores of one query in an array of this length.
pub const PAGE_ROWS_MAX: usize = 512;

#[cfg(test)]
mod tests;

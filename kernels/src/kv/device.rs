//! The layout of KV pages on a GPU; its twin there is `Pages` in `cuda/prelude.cuh`.
//!
//! A page holds `[layer][K, V][kv_head]` panels, a panel numbers `[row][dim]` and, where numbers
//! are codes, their scales `[row][group]`: what one row has in a panel lies side by side, for loads
//! of 16 bytes. Numbers and scales of a panel each begin at a multiple of 16 bytes. On the CPU keys
//! lie the other way round, so bytes of one are none of the other's.

use super::{KvLayout, PoolError};
use half::bf16;

/// Shape of a page on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceKvLayout(KvLayout);

/// Version of the layout: bytes of another one are not read.
pub const DEVICE_KV_VERSION: u32 = 1;

impl DeviceKvLayout {
    /// The layout of pages of these sizes.
    ///
    /// # Errors
    /// When a size is 0, heads are too long, or a page is larger than a kernel counts.
    pub fn new(sizes: KvLayout) -> Result<Self, PoolError> {
        // Panels here are at most two alignments longer than there.
        let bytes = sizes.checked_page_bytes()?;
        let panels = 2 * sizes.layers * sizes.kv_heads;
        let most = bytes.checked_add(2 * ALIGN * panels).ok_or(PoolError::TooLarge)?;
        i32::try_from(most).map(|_| Self(sizes)).map_err(|_| PoolError::TooLarge)
    }

    /// The sizes.
    pub fn sizes(&self) -> &KvLayout {
        &self.0
    }

    /// Bytes of one page: K and V of every layer.
    pub const fn page_bytes(&self) -> usize {
        self.panels() * self.panel_bytes()
    }

    /// Bytes of the K (or V) of one head of one layer.
    pub const fn panel_bytes(&self) -> usize {
        let scales = self.0.page_rows * self.row_scales_bytes();
        self.scales_start() + scales.next_multiple_of(ALIGN)
    }

    /// Where the scales of a panel begin, in bytes.
    pub const fn scales_start(&self) -> usize {
        (self.0.page_rows * self.row_numbers_bytes()).next_multiple_of(ALIGN)
    }

    /// Bytes of K and V of one row of one head in one layer.
    pub const fn row_bytes(&self) -> usize {
        2 * (self.row_numbers_bytes() + self.row_scales_bytes())
    }

    /// Bytes of K and V of `rows` rows, in all layers, as they are handed out and filled in: whole
    /// pages as they stand, and of the last one the rows alone.
    pub const fn bytes_of(&self, rows: usize) -> usize {
        let alone = rows % self.0.page_rows * self.panels() * self.row_bytes() / 2;
        rows / self.0.page_rows * self.page_bytes() + alone
    }

    /// Panels of a page.
    pub(crate) const fn panels(&self) -> usize {
        2 * self.0.layers * self.0.kv_heads
    }

    /// Bytes of the numbers of one row of a panel.
    pub(crate) const fn row_numbers_bytes(&self) -> usize {
        self.0.head_dim * self.0.dtype.bytes()
    }

    /// Bytes of the scales of one row of a panel.
    pub(crate) const fn row_scales_bytes(&self) -> usize {
        self.0.groups() * size_of::<bf16>()
    }

    /// Where a panel begins in its page, in bytes. `side`: 0 for K, 1 for V.
    pub(crate) fn panel_start(&self, layer: usize, side: usize, head: usize) -> usize {
        assert!(layer < self.0.layers && side < 2 && head < self.0.kv_heads, "inside the page");
        ((layer * 2 + side) * self.0.kv_heads + head) * self.panel_bytes()
    }
}

/// What one load of a GPU takes.
const ALIGN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KvDtype;

    #[test]
    fn panels_begin_where_loads_may() {
        for dtype in KvDtype::ALL {
            for (head_dim, page_rows) in [(64, 32), (18, 3), (80, 1), (128, 48)] {
                let sizes = KvLayout { layers: 3, kv_heads: 2, head_dim, page_rows, dtype };
                let layout = DeviceKvLayout::new(sizes).expect("a small layout");
                assert!(layout.panel_bytes().is_multiple_of(ALIGN));
                assert!(layout.scales_start().is_multiple_of(ALIGN));
                assert_eq!(layout.panel_start(2, 1, 1) + layout.panel_bytes(), layout.page_bytes());
                let rows = layout.row_bytes() * page_rows * 6;
                assert!(layout.page_bytes() >= rows && layout.page_bytes() < rows + 2 * ALIGN * 12);
                assert_eq!(layout.bytes_of(2 * page_rows), 2 * layout.page_bytes());
                assert_eq!(sizes.row_bytes(), layout.row_bytes());
            }
        }
    }

    #[test]
    fn pages_that_kernels_cannot_count_are_refused() {
        let sizes = KvLayout {
            layers: 200,
            kv_heads: 128,
            head_dim: 512,
            page_rows: 64,
            dtype: KvDtype::F32,
        };
        assert_eq!(DeviceKvLayout::new(sizes), Err(PoolError::TooLarge));
    }
}

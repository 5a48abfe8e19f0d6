//! The memory of all KV pages: one mapping, zeroed, touched only where rows are written.
//!
//! Owns bounds and number formats; who owns a page is none of its business.

use super::{Element, HEAD_DIM_MAX, KvLayout};
use crate::memory;
use crate::{KvDtype, PageId};
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;

/// Pages of KV memory.
///
/// Reads and writes name a page, a layer and a head; an index outside the pool is a bug of the
/// caller and panics.
pub struct KvPool {
    layout: KvLayout,
    pages: usize,
    /// Where page 0 begins, in `_map`.
    start: NonNull<u8>,
    _map: memmap2::MmapMut,
}

/// Why there is no pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolError {
    /// A size of the layout is 0, or its heads are longer than [`HEAD_DIM_MAX`].
    Shape(KvLayout),
    /// The bytes cannot be counted in an address.
    TooLarge,
    /// The machine does not give this many bytes.
    Memory(usize),
}

impl KvPool {
    /// Zeroed memory for `pages` pages. The system backs a page with memory when it is written.
    ///
    /// # Errors
    /// When the layout is no layout, or its pages do not fit in memory.
    pub fn new(layout: KvLayout, pages: usize) -> Result<Self, PoolError> {
        let page_bytes = layout.checked_page_bytes()?;
        let bytes = pages.checked_mul(page_bytes).ok_or(PoolError::TooLarge)?;
        // A mapping is never empty.
        let mut map = memory::zeroed(bytes.max(1)).map_err(|_| PoolError::Memory(bytes))?;
        let start = NonNull::new(map.as_mut_ptr()).ok_or(PoolError::Memory(bytes))?;
        Ok(Self { layout, pages, start, _map: map })
    }

    /// The shape of a page.
    pub fn layout(&self) -> &KvLayout {
        &self.layout
    }

    /// Pages in the pool.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Copies the first `rows` rows of page `from`, all layers, to the same rows of page `to`.
    ///
    /// # Panics
    /// When a page is not in the pool or `rows` exceeds a page.
    pub fn copy_rows(&mut self, from: PageId, to: PageId, rows: usize) {
        match self.layout.dtype {
            KvDtype::F32 => self.copy_elements::<f32>(from, to, rows),
            KvDtype::F16 => self.copy_elements::<half::f16>(from, to, rows),
            KvDtype::Bf16 => self.copy_elements::<half::bf16>(from, to, rows),
        }
    }

    /// Hands out the bytes of the first `rows` rows of `pages` in one canonical order.
    ///
    /// Their concatenation depends on these rows alone, not on what lies behind them in the last
    /// page; how it is cut into calls is not promised. Order: page, layer, K then V, head, then
    /// dims and rows as they are stored.
    ///
    /// # Panics
    /// When a page is not in the pool or `pages` hold fewer rows.
    pub fn visit_rows(&self, pages: &[PageId], rows: usize, mut visit: impl FnMut(&[u8])) {
        let KvLayout { page_rows, head_dim, .. } = self.layout;
        assert!(rows <= pages.len() * page_rows, "{rows} rows in {} pages", pages.len());
        let size = self.layout.dtype.bytes();
        for (i, &page) in pages.iter().enumerate() {
            let present = rows.saturating_sub(i * page_rows).min(page_rows);
            if present == 0 {
                break;
            }
            let bytes = self.page_bytes(page);
            if present == page_rows {
                visit(bytes);
                continue;
            }
            for (p, panel) in bytes.chunks_exact(self.layout.panel() * size).enumerate() {
                let is_k = (p / self.layout.kv_heads).is_multiple_of(2);
                if is_k {
                    let dims = panel.chunks_exact(page_rows * size);
                    dims.for_each(|dim| visit(&dim[..present * size]));
                } else {
                    visit(&panel[..present * head_dim * size]);
                }
            }
        }
    }

    /// K `[head_dim, page_rows]` of a head.
    pub(crate) fn k<E: Element>(&self, page: PageId, layer: usize, head: usize) -> &[E] {
        &self.elements(page)[self.layout.panel_range(layer, 0, head)]
    }

    /// V `[page_rows, head_dim]` of a head.
    pub(crate) fn v<E: Element>(&self, page: PageId, layer: usize, head: usize) -> &[E] {
        &self.elements(page)[self.layout.panel_range(layer, 1, head)]
    }

    /// What writes rows, from several threads at once.
    pub(crate) fn writer(&mut self) -> Writer<'_> {
        Writer(self)
    }

    fn copy_elements<E: Element>(&mut self, from: PageId, to: PageId, rows: usize) {
        let KvLayout { page_rows, head_dim, kv_heads, .. } = self.layout;
        assert!(rows <= page_rows, "{rows} of {page_rows} rows");
        if from == to {
            return;
        }
        let panel = self.layout.panel();
        let (source, target) = self.two_pages_mut::<E>(from, to);
        let pairs = source.chunks_exact(panel).zip(target.chunks_exact_mut(panel));
        for (p, (source, target)) in pairs.enumerate() {
            let is_k = (p / kv_heads).is_multiple_of(2);
            let (step, kept) = if is_k { (page_rows, rows) } else { (panel, rows * head_dim) };
            for (s, t) in source.chunks_exact(step).zip(target.chunks_exact_mut(step)) {
                t[..kept].copy_from_slice(&s[..kept]);
            }
        }
    }

    /// Where a page lies, in bytes from page 0.
    fn page_range(&self, page: PageId) -> Range<usize> {
        let index = page.0 as usize;
        assert!(index < self.pages, "page {index} of {}", self.pages);
        let bytes = self.layout.page_bytes();
        index * bytes..(index + 1) * bytes
    }

    fn page_bytes(&self, page: PageId) -> &[u8] {
        let range = self.page_range(page);
        // SAFETY: the range lies in the mapping (`new` counted pages * page_bytes), which was zeroed
        // and is borrowed as long as `self`.
        unsafe { std::slice::from_raw_parts(self.page_zero().add(range.start), range.len()) }
    }

    fn elements<E: Element>(&self, page: PageId) -> &[E] {
        assert!(E::DTYPE == self.layout.dtype, "pages of {:?}", self.layout.dtype);
        let start = self.page_range(page).start;
        // SAFETY: as in `page_bytes`; page 0 is aligned to a system page and a page is a whole number of
        // elements, so every page is aligned for E; every bit pattern is an E.
        unsafe {
            std::slice::from_raw_parts(self.page_zero().add(start).cast::<E>(), self.layout.page())
        }
    }

    fn elements_mut<E: Element>(&mut self, page: PageId) -> &mut [E] {
        assert!(E::DTYPE == self.layout.dtype, "pages of {:?}", self.layout.dtype);
        let start = self.page_range(page).start;
        let first = self.page_zero().wrapping_add(start).cast::<E>();
        // SAFETY: as in `elements`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(first, self.layout.page()) }
    }

    /// Two different pages, the second to write.
    fn two_pages_mut<E: Element>(&mut self, a: PageId, b: PageId) -> (&[E], &mut [E]) {
        assert!(a != b, "two pages");
        let start = self.page_range(a).start;
        let length = self.layout.page();
        let first = self.page_zero().wrapping_add(start).cast::<E>();
        let second = self.elements_mut::<E>(b);
        // SAFETY: as in `elements`; page `a` is not page `b`, so the slices do not overlap, and
        // both borrow `self` mutably.
        (unsafe { std::slice::from_raw_parts(first, length) }, second)
    }

    fn page_zero(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

/// A pool that is being written.
pub(crate) struct Writer<'a>(&'a mut KvPool);

impl Writer<'_> {
    /// Writes one row of a head: `k` and `v` have `head_dim` elements.
    ///
    /// # Safety
    /// No other thread writes to this page at the same time.
    pub(crate) unsafe fn write<E: Element>(&self, at: RowOfHead, k: &[f32], v: &[f32]) {
        let KvPool { layout, .. } = &*self.0;
        let KvLayout { page_rows, head_dim, .. } = *layout;
        assert!(at.row < page_rows && k.len() == head_dim && v.len() == head_dim, "one row");
        assert!(E::DTYPE == layout.dtype, "pages of {:?}", layout.dtype);
        let k_panel = layout.panel_range(at.layer, 0, at.head);
        let v_panel = layout.panel_range(at.layer, 1, at.head);
        let start = self.0.page_range(at.page).start;
        let elements = self.0.page_zero().wrapping_add(start).cast::<E>();
        // SAFETY: as in `elements`, this is a page of the pool; the pool is borrowed mutably, and
        // by promise no other thread has a part of this page.
        let elements = unsafe { std::slice::from_raw_parts_mut(elements, layout.page()) };
        let mut narrow = [E::ZERO; HEAD_DIM_MAX];
        let narrow = &mut narrow[..head_dim];
        E::narrow(k, narrow);
        let column = elements[k_panel].iter_mut().skip(at.row).step_by(page_rows);
        column.zip(narrow).for_each(|(to, x)| *to = *x);
        E::narrow(v, &mut elements[v_panel][at.row * head_dim..][..head_dim]);
    }
}

/// One row of one head in the pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowOfHead {
    pub(crate) page: PageId,
    pub(crate) layer: usize,
    pub(crate) head: usize,
    pub(crate) row: usize,
}

// SAFETY: the pool owns its mapping alone; nothing in it refers to a thread.
unsafe impl Send for KvPool {}

// SAFETY: `&KvPool` only reads.
unsafe impl Sync for KvPool {}

impl fmt::Debug for KvPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KvPool({} pages of {:?})", self.pages, self.layout)
    }
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape(layout) => {
                write!(
                    f,
                    "no KV pages of {layout:?}: sizes are above 0, heads up to {HEAD_DIM_MAX}"
                )
            }
            Self::TooLarge => f.write_str("KV pages beyond what an address can count"),
            Self::Memory(bytes) => write!(f, "no memory for {bytes} bytes of KV pages"),
        }
    }
}

impl std::error::Error for PoolError {}

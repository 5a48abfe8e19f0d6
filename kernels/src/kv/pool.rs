//! The memory of all KV pages: one mapping, zeroed, touched only where rows are written.
//!
//! Owns bounds and number formats; who owns a page is none of its business.

use super::{Element, GROUP_DIMS, HEAD_DIM_MAX, KvLayout};
use crate::memory;
use crate::{KvDtype, PageId};
use half::bf16;
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
    /// Where page 0 begins, in `map`.
    start: NonNull<u8>,
    map: memmap2::MmapMut,
}

/// K or V.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    K,
    V,
}

/// K `[head_dim, page_rows]` or V `[page_rows, head_dim]` of one head of one page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panel<'a, E> {
    pub(crate) numbers: &'a [E],
    /// Of K `[groups, page_rows]`, of V `[page_rows, groups]`. None where numbers are no codes.
    pub(crate) scales: &'a [bf16],
}

/// Why there is no pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolError {
    /// A size of the layout is 0, its heads are longer than [`HEAD_DIM_MAX`], or its pages than
    /// [`super::PAGE_ROWS_MAX`].
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
        Ok(Self { layout, pages, start, map })
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
        assert!(rows <= self.layout.page_rows, "{rows} of {} rows", self.layout.page_rows);
        let (from, to) = (self.page_range(from).start, self.page_range(to).start);
        let bytes = &mut self.map[..];
        self.layout.parts_of_rows(rows, |part| {
            bytes.copy_within(from + part.start..from + part.end, to + part.start);
        });
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
        let page_rows = self.layout.page_rows;
        assert!(rows <= pages.len() * page_rows, "{rows} rows in {} pages", pages.len());
        for (i, &page) in pages.iter().enumerate() {
            let present = rows.saturating_sub(i * page_rows).min(page_rows);
            let bytes = &self.map[self.page_range(page)];
            if present == page_rows {
                visit(bytes);
            } else if present > 0 {
                self.layout.parts_of_rows(present, |part| visit(&bytes[part]));
            }
        }
    }

    /// Writes the first `rows` rows of `pages` from `bytes`: what [`Self::visit_rows`] handed out.
    /// What lies behind them in the last page stays as it is.
    ///
    /// # Panics
    /// When a page is not in the pool, `pages` hold fewer rows, or `bytes` are not of so many.
    pub fn fill_rows(&mut self, pages: &[PageId], rows: usize, bytes: &[u8]) {
        let page_rows = self.layout.page_rows;
        assert!(rows <= pages.len() * page_rows, "{rows} rows in {} pages", pages.len());
        assert_eq!(bytes.len(), self.layout.bytes_of(rows), "bytes of {rows} rows");
        let mut rest = bytes;
        for (i, &page) in pages.iter().enumerate() {
            let present = rows.saturating_sub(i * page_rows).min(page_rows);
            let range = self.page_range(page);
            let to = &mut self.map[range];
            let mut fill = |part: Range<usize>| {
                let (from, behind) = rest.split_at(part.len());
                to[part].copy_from_slice(from);
                rest = behind;
            };
            if present == page_rows {
                fill(0..self.layout.page_bytes());
            } else if present > 0 {
                self.layout.parts_of_rows(present, fill);
            }
        }
    }

    /// K or V of a head.
    pub(crate) fn panel<E: Element>(
        &self,
        page: PageId,
        layer: usize,
        side: Side,
        head: usize,
    ) -> Panel<'_, E> {
        let place = self.place::<E>(page, layer, side, head);
        // SAFETY: `place` found both in the mapping, which is borrowed as long as `self`; any bits
        // are a number or a scale.
        unsafe {
            Panel {
                numbers: std::slice::from_raw_parts(place.numbers, place.count),
                scales: std::slice::from_raw_parts(place.scales, place.scale_count),
            }
        }
    }

    /// K and V of one row of a head, as they are stored.
    pub(crate) fn row(&self, at: RowOfHead) -> [Vec<f32>; 2] {
        match self.layout.dtype {
            KvDtype::F32 => self.row_of::<f32>(at),
            KvDtype::F16 => self.row_of::<half::f16>(at),
            KvDtype::Bf16 => self.row_of::<bf16>(at),
            KvDtype::Int8 => self.row_of::<i8>(at),
        }
    }

    fn row_of<E: Element>(&self, at: RowOfHead) -> [Vec<f32>; 2] {
        let KvLayout { page_rows, head_dim, .. } = self.layout;
        let groups = self.layout.groups();
        let RowOfHead { page, layer, head, row } = at;
        let k = self.panel::<E>(page, layer, Side::K, head);
        let v = self.panel::<E>(page, layer, Side::V, head);
        let scale = |scales: &[bf16], at| scales.get(at).copied().unwrap_or_default();
        let k_number = |d: usize| {
            let scale = scale(k.scales, d / GROUP_DIMS * page_rows + row);
            k.numbers[d * page_rows + row].widen(scale)
        };
        let v_number = |d: usize| {
            let scale = scale(v.scales, row * groups + d / GROUP_DIMS);
            v.numbers[row * head_dim + d].widen(scale)
        };
        [(0..head_dim).map(k_number).collect(), (0..head_dim).map(v_number).collect()]
    }

    /// The squared norm of V of one row of a head.
    pub(crate) fn square(&self, at: RowOfHead) -> f64 {
        match self.layout.dtype {
            KvDtype::F32 => self.square_of::<f32>(at),
            KvDtype::F16 => self.square_of::<half::f16>(at),
            KvDtype::Bf16 => self.square_of::<bf16>(at),
            KvDtype::Int8 => self.square_of::<i8>(at),
        }
    }

    fn square_of<E: Element>(&self, at: RowOfHead) -> f64 {
        let (head_dim, groups) = (self.layout.head_dim, self.layout.groups());
        let v = self.panel::<E>(at.page, at.layer, Side::V, at.head);
        let scales = &v.scales[at.row * groups..][..groups];
        let numbers = v.numbers[at.row * head_dim..][..head_dim].iter();
        let square = |(d, number): (usize, &E)| {
            f64::from(number.widen(scales.get(d / GROUP_DIMS).copied().unwrap_or_default())).powi(2)
        };
        numbers.enumerate().map(square).sum()
    }

    /// What writes rows, from several threads at once.
    pub(crate) fn writer(&mut self) -> Writer<'_> {
        Writer(self)
    }

    /// Where a page lies, in bytes from page 0.
    fn page_range(&self, page: PageId) -> Range<usize> {
        let index = page.0 as usize;
        assert!(index < self.pages, "page {index} of {}", self.pages);
        let bytes = self.layout.page_bytes();
        index * bytes..(index + 1) * bytes
    }

    /// Where a panel lies: aligned for its elements, since the mapping is to a system page and pages
    /// and panels are whole numbers of elements and scales.
    fn place<E: Element>(&self, page: PageId, layer: usize, side: Side, head: usize) -> Place<E> {
        assert!(E::DTYPE == self.layout.dtype, "pages of {:?}", self.layout.dtype);
        let start = self.page_range(page).start + self.layout.panel_start(layer, side, head);
        let start = self.start.as_ptr().wrapping_add(start);
        let KvLayout { page_rows, head_dim, .. } = self.layout;
        Place {
            numbers: start.cast(),
            count: head_dim * page_rows,
            scales: start.wrapping_add(self.layout.scales_start()).cast(),
            scale_count: self.layout.groups() * page_rows,
        }
    }
}

/// Where a panel lies: inside the mapping of its pool.
struct Place<E> {
    numbers: *mut E,
    count: usize,
    scales: *mut bf16,
    scale_count: usize,
}

/// A pool that is being written.
pub(crate) struct Writer<'a>(&'a mut KvPool);

impl Writer<'_> {
    /// Writes one row of a head: `k` and `v` have `head_dim` elements.
    ///
    /// # Safety
    /// No other thread writes to this page at the same time.
    pub(crate) unsafe fn write<E: Element>(&self, at: RowOfHead, k: &[f32], v: &[f32]) {
        let KvLayout { page_rows, head_dim, .. } = self.0.layout;
        assert!(at.row < page_rows && k.len() == head_dim && v.len() == head_dim, "one row");
        let mut numbers = [E::ZERO; HEAD_DIM_MAX];
        let mut scales = [bf16::ZERO; HEAD_DIM_MAX / GROUP_DIMS];
        let (numbers, scales) = (&mut numbers[..head_dim], &mut scales[..self.0.layout.groups()]);
        // SAFETY: by promise no other thread has a part of this page.
        let [k_panel, v_panel] = unsafe {
            [Side::K, Side::V].map(|side| self.panel_mut::<E>(at.page, at.layer, side, at.head))
        };
        E::narrow(k, numbers, scales);
        let column = k_panel.0.iter_mut().skip(at.row).step_by(page_rows);
        column.zip(&*numbers).for_each(|(to, x)| *to = *x);
        let column = k_panel.1.iter_mut().skip(at.row).step_by(page_rows);
        column.zip(&*scales).for_each(|(to, x)| *to = *x);
        let groups = scales.len();
        let v_scales = &mut v_panel.1[at.row * groups..][..groups];
        E::narrow(v, &mut v_panel.0[at.row * head_dim..][..head_dim], v_scales);
    }

    /// Numbers and scales of a panel.
    ///
    /// # Safety
    /// Nobody else has a part of it.
    #[expect(clippy::mut_from_ref, reason = "threads write different pages; see the promise")]
    unsafe fn panel_mut<E: Element>(
        &self,
        page: PageId,
        layer: usize,
        side: Side,
        head: usize,
    ) -> (&mut [E], &mut [bf16]) {
        let place = self.0.place::<E>(page, layer, side, head);
        // SAFETY: `place` found both in the mapping, apart from one another; the pool is borrowed
        // mutably, and by promise nobody else has a part of the panel.
        unsafe {
            (
                std::slice::from_raw_parts_mut(place.numbers, place.count),
                std::slice::from_raw_parts_mut(place.scales, place.scale_count),
            )
        }
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

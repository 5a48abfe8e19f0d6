//! KV pages in device memory: one allocation, zeroed.
//!
//! Owns bounds and the way of rows to the host and back; who owns a page is none of its business.

use super::strided::Stretches;
use super::{Argument, Buffer, Gpu, GpuError, Kernel, Pinned, Shape};
use crate::kv::{DeviceKvLayout, Element, Side};
use crate::{KvDtype, KvPool, PageId};
use half::{bf16, f16};
use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Pages of KV memory on a device.
///
/// An index outside the pool is a bug of the caller and panics.
pub struct GpuKvPool {
    layout: DeviceKvLayout,
    pages: usize,
    bytes: Buffer<u8>,
    /// What rows pass through: whole pages, at least one.
    staging: Mutex<Pinned<u8>>,
}

/// Bytes of host memory that rows pass through, if a page is no larger.
const STAGING: usize = 16 << 20;

impl GpuKvPool {
    /// Zeroed memory for `pages` pages.
    ///
    /// # Errors
    /// When the device has not so much memory left.
    pub fn new(gpu: &Gpu, layout: DeviceKvLayout, pages: usize) -> Result<Self, GpuError> {
        let page_bytes = layout.page_bytes();
        let bytes = pages
            .checked_mul(page_bytes)
            .ok_or(GpuError::Memory { bytes: usize::MAX, free: gpu.device().memory_bytes })?;
        let staged = (STAGING / page_bytes).clamp(1, pages.max(1));
        let staging = Mutex::new(Pinned::zeroed(gpu, staged * page_bytes)?);
        Ok(Self { layout, pages, bytes: Buffer::zeroed(gpu, bytes)?, staging })
    }

    /// The shape of a page.
    pub fn layout(&self) -> &DeviceKvLayout {
        &self.layout
    }

    /// Pages in the pool.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// What kernels take of a layer: the pages, the bytes of a page and of a panel, where scales
    /// begin in that, the layer, heads, dims and rows.
    ///
    /// # Panics
    /// When there is no such layer.
    pub(crate) fn arguments(&self, layer: usize) -> [Argument<'_>; 8] {
        let layout = &self.layout;
        let sizes = layout.sizes();
        assert!(layer < sizes.layers, "layer {layer} of {}", sizes.layers);
        let count = Argument::count;
        [
            (&self.bytes).into(),
            count(layout.page_bytes()),
            count(layout.panel_bytes()),
            count(layout.scales_start()),
            count(layer),
            count(sizes.kv_heads),
            count(sizes.head_dim),
            count(sizes.page_rows),
        ]
    }

    /// Copies the first `rows` rows of page `from`, all layers, to the same rows of page `to`.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// When a page is not in the pool, `rows` exceeds a page, or both pages are one.
    pub fn copy_rows(&mut self, from: PageId, to: PageId, rows: usize) -> Result<(), GpuError> {
        let page_rows = self.layout.sizes().page_rows;
        assert!(rows <= page_rows, "{rows} of {page_rows} rows");
        assert_ne!(from, to, "a page is not copied to itself");
        let from = self.page(from);
        let mut to = self.page(to);
        if rows == page_rows {
            return to.copy_from(&from);
        }
        for part in self.parts(rows) {
            let mut to = to.part(part.at..to.len());
            to.copy_stretches(&from.part(part.at..from.len()), part.in_pages())?;
        }
        Ok(())
    }

    /// [`Self::copy_rows`] for each of the first `count` of `copies` (page to read, page to write,
    /// rows), in one launch. No page is written twice, or read and written; that all are in the
    /// pool is the caller's to see to.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// When there are fewer copies.
    pub fn copy_rows_each(
        &mut self,
        gpu: &Gpu,
        (copies, count): (&Buffer<[u32; 3]>, usize),
    ) -> Result<(), GpuError> {
        assert!(count <= copies.len(), "{count} of {} copies", copies.len());
        let [pages, page_bytes, panel_bytes, scales_start, ..] = self.arguments(0);
        let arguments = [
            pages,
            page_bytes,
            panel_bytes,
            scales_start,
            Argument::count(self.layout.row_numbers_bytes()),
            Argument::count(self.layout.row_scales_bytes()),
            copies.into(),
        ];
        let shape = Shape { blocks: [self.layout.panels(), count, 1], ..Shape::of(0, 128) };
        // SAFETY: a block copies rows of one panel; pages and rows are what the caller says.
        unsafe { gpu.launch(const { Kernel::named("copy_rows") }, &shape, &arguments) }
    }

    /// Hands out the bytes of the first `rows` rows of `pages` in one canonical order.
    ///
    /// Their concatenation depends on these rows alone, not on what lies behind them in the last
    /// page; how it is cut into calls is not promised. A hash of them is the digest of the rows.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// When a page is not in the pool or `pages` hold fewer rows.
    pub fn visit_rows(
        &self,
        pages: &[PageId],
        rows: usize,
        mut visit: impl FnMut(&[u8]),
    ) -> Result<(), GpuError> {
        let whole = self.whole(pages, rows);
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        let page_bytes = self.layout.page_bytes();
        for pages in pages[..whole].chunks(staging.len() / page_bytes) {
            for (i, &page) in pages.iter().enumerate() {
                let page = self.page(page);
                staging.download_stretches(i * page_bytes, &page, Stretches::one(page_bytes))?;
            }
            visit(&staging.numbers()?[..pages.len() * page_bytes]);
        }
        let alone = rows % self.layout.sizes().page_rows;
        if alone > 0 {
            let page = self.page(pages[whole]);
            for part in self.parts(alone) {
                let from = page.part(part.at..page.len());
                staging.download_stretches(part.at_alone, &from, part.out_of_page())?;
            }
            visit(&staging.numbers()?[..self.layout.bytes_of(alone)]);
        }
        Ok(())
    }

    /// Writes the first `rows` rows of `pages` from `bytes`: what [`Self::visit_rows`] handed out.
    /// What lies behind them in the last page stays as it is.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// When a page is not in the pool, `pages` hold fewer rows, or `bytes` are not of so many.
    pub fn fill_rows(
        &mut self,
        pages: &[PageId],
        rows: usize,
        bytes: &[u8],
    ) -> Result<(), GpuError> {
        let whole = self.whole(pages, rows);
        assert_eq!(bytes.len(), self.layout.bytes_of(rows), "bytes of {rows} rows");
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        let page_bytes = self.layout.page_bytes();
        let (pages_whole, alone_bytes) = bytes.split_at(whole * page_bytes);
        let together = staging.len() / page_bytes;
        let groups = pages[..whole].chunks(together);
        for (pages, bytes) in groups.zip(pages_whole.chunks(together * page_bytes)) {
            staging.numbers()?[..bytes.len()].copy_from_slice(bytes);
            for (i, &page) in pages.iter().enumerate() {
                let mut page = self.page(page);
                staging.upload_stretches(i * page_bytes, &mut page, Stretches::one(page_bytes))?;
            }
        }
        let alone = rows % self.layout.sizes().page_rows;
        if alone > 0 {
            staging.numbers()?[..alone_bytes.len()].copy_from_slice(alone_bytes);
            let page = self.page(pages[whole]);
            for part in self.parts(alone) {
                let mut to = page.part(part.at..page.len());
                staging.upload_stretches(part.at_alone, &mut to, part.to_page())?;
            }
        }
        Ok(())
    }

    /// A pool that holds what `host` holds: how cases that fill pages on the CPU get them here.
    pub(crate) fn of_host(gpu: &Gpu, host: &KvPool) -> Result<Self, GpuError> {
        let layout = DeviceKvLayout::new(*host.layout()).expect("a page that kernels can count");
        let mut pool = Self::new(gpu, layout, host.pages())?;
        for page in (0..host.pages() as u32).map(PageId) {
            let bytes = match host.layout().dtype {
                KvDtype::F32 => turned::<f32>(host, &layout, page),
                KvDtype::F16 => turned::<f16>(host, &layout, page),
                KvDtype::Bf16 => turned::<bf16>(host, &layout, page),
                KvDtype::Int8 => turned::<i8>(host, &layout, page),
            };
            pool.fill_rows(&[page], layout.sizes().page_rows, &bytes)?;
        }
        Ok(pool)
    }

    /// How many of `pages` the rows fill.
    fn whole(&self, pages: &[PageId], rows: usize) -> usize {
        let page_rows = self.layout.sizes().page_rows;
        assert!(rows <= pages.len() * page_rows, "{rows} rows in {} pages", pages.len());
        rows / page_rows
    }

    /// The bytes of a page.
    fn page(&self, page: PageId) -> Buffer<u8> {
        let (index, bytes) = (page.0 as usize, self.layout.page_bytes());
        assert!(index < self.pages, "page {index} of {}", self.pages);
        self.bytes.part(index * bytes..(index + 1) * bytes)
    }

    /// What a page has of its first `rows` rows, fewer than all: numbers, and scales if there are
    /// any.
    fn parts(&self, rows: usize) -> impl Iterator<Item = Part> + use<> {
        let layout = self.layout;
        let (numbers, scales) =
            (rows * layout.row_numbers_bytes(), rows * layout.row_scales_bytes());
        let part = |at, at_alone, bytes| Part {
            at,
            at_alone,
            bytes,
            panels: layout.panels(),
            step: layout.panel_bytes(),
            step_alone: numbers + scales,
        };
        let both = [part(0, 0, numbers), part(layout.scales_start(), numbers, scales)];
        both.into_iter().filter(|part| part.bytes > 0)
    }
}

/// Stretches of a page, one in each panel; alone, they stand side by side, panel by panel.
struct Part {
    at: usize,
    at_alone: usize,
    bytes: usize,
    panels: usize,
    step: usize,
    step_alone: usize,
}

impl Part {
    fn stretches(&self, from_step: usize, to_step: usize) -> Stretches {
        Stretches { count: self.panels, bytes: self.bytes, from_step, to_step }
    }

    fn in_pages(&self) -> Stretches {
        self.stretches(self.step, self.step)
    }

    fn out_of_page(&self) -> Stretches {
        self.stretches(self.step, self.step_alone)
    }

    fn to_page(&self) -> Stretches {
        self.stretches(self.step_alone, self.step)
    }
}

/// A page as a device has it: keys turned round.
fn turned<E: Element>(host: &KvPool, layout: &DeviceKvLayout, page: PageId) -> Vec<u8> {
    let sizes = *layout.sizes();
    let (dims, rows, groups) = (sizes.head_dim, sizes.page_rows, sizes.groups());
    let mut bytes = vec![0; layout.page_bytes()];
    let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    for layer in 0..sizes.layers {
        for head in 0..sizes.kv_heads {
            for (side, panel) in [Side::K, Side::V].into_iter().enumerate() {
                let panel = host.panel::<E>(page, layer, panel, head);
                let start = layout.panel_start(layer, side, head);
                // Of [a, b] into [b, a].
                let place = |row: usize, each: usize, of: usize| {
                    if side == 0 { each * rows + row } else { row * of + each }
                };
                for (row, dim) in pairs(0..rows, dims) {
                    let at = start + row * layout.row_numbers_bytes() + dim * size_of::<E>();
                    put(at, bytes_of(&panel.numbers[place(row, dim, dims)]));
                }
                for (row, group) in pairs(0..rows, groups) {
                    let at = start + layout.scales_start() + (row * groups + group) * 2;
                    put(at, &panel.scales[place(row, group, groups)].to_le_bytes());
                }
            }
        }
    }
    bytes
}

fn pairs(rows: Range<usize>, of: usize) -> impl Iterator<Item = (usize, usize)> {
    rows.flat_map(move |row| (0..of).map(move |each| (row, each)))
}

fn bytes_of<E: Element>(number: &E) -> &[u8] {
    // SAFETY: stored numbers are integers and floats, which have no padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(number).cast(), size_of::<E>()) }
}

impl fmt::Debug for GpuKvPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GpuKvPool({} pages of {:?})", self.pages, self.layout)
    }
}

#[cfg(test)]
mod tests;

//! Memory for what every token reads: weights and KV pages, on huge pages where the system has them.
//!
//! A core finds the 4 KB pages of a few hundred megabytes through tables that do not fit in its
//! caches; with pages of 2 MB they do, and decoding is a fifth faster. It is advice: a system that
//! declines it gives ordinary pages.

use memmap2::MmapMut;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// Where arrays of weights lie side by side: small ones have huge pages in common.
#[derive(Debug, Default)]
pub struct Arena {
    chunk: Option<Arc<Chunk>>,
    /// Bytes of the chunk that are given out.
    used: usize,
}

/// One mapping, which lives as long as an array in it.
pub(crate) struct Chunk {
    start: NonNull<u8>,
    bytes: usize,
    _map: MmapMut,
}

/// An array that is being written: nobody else knows of it.
pub(crate) struct Draft<T>(Array<T>);

/// An array that is not written any more. Cheap to clone.
pub(crate) struct Array<T> {
    chunk: Arc<Chunk>,
    /// From the start of the chunk, in bytes.
    offset: usize,
    len: usize,
    element: PhantomData<T>,
}

/// Numbers, and arrays of them: any bytes are one, zeros among them.
///
/// # Safety
/// Every bit pattern is a value, without padding, aligned to at most [`ALIGN`].
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: integers and floats take any bits.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl<const N: usize> Plain for [u16; N] {}
// SAFETY: as above.
unsafe impl<const N: usize> Plain for [f32; N] {}

impl Arena {
    /// Nothing is mapped before something is placed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Zeros to be written over.
    ///
    /// # Panics
    /// When the system has no memory for them.
    pub(crate) fn zeroed<T: Plain>(&mut self, len: usize) -> Draft<T> {
        const { assert!(align_of::<T>() <= ALIGN) };
        let bytes = len.checked_mul(size_of::<T>()).expect("an array that an address can count");
        let (chunk, offset) =
            if bytes > CHUNK / 4 { (Arc::new(Chunk::map(bytes)), 0) } else { self.place(bytes) };
        assert!(offset + bytes <= chunk.bytes, "arrays lie in their chunk");
        Draft(Array { chunk, offset, len, element: PhantomData })
    }

    fn place(&mut self, bytes: usize) -> (Arc<Chunk>, usize) {
        if let Some(chunk) = self.chunk.as_ref().filter(|chunk| self.used + bytes <= chunk.bytes) {
            let offset = self.used;
            self.used = (offset + bytes).next_multiple_of(ALIGN);
            return (chunk.clone(), offset);
        }
        let chunk = Arc::new(Chunk::map(CHUNK));
        self.chunk = Some(chunk.clone());
        self.used = bytes.next_multiple_of(ALIGN);
        (chunk, 0)
    }
}

impl Chunk {
    fn map(bytes: usize) -> Self {
        // A mapping is never empty.
        let bytes = bytes.max(1);
        let mut map = zeroed(bytes).unwrap_or_else(|error| panic!("{bytes} bytes: {error}"));
        let start = NonNull::new(map.as_mut_ptr()).expect("a mapping has an address");
        Self { start, bytes, _map: map }
    }
}

/// A mapping of zeros, on huge pages where the system has them. It is backed with memory where it
/// is written.
pub(crate) fn zeroed(bytes: usize) -> std::io::Result<MmapMut> {
    let map = MmapMut::map_anon(bytes)?;
    #[cfg(target_os = "linux")]
    // Declined is as good as not asked.
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(map)
}

impl<T: Plain> Draft<T> {
    /// From here on it is read only.
    pub(crate) fn finish(self) -> Array<T> {
        self.0
    }
}

impl<T: Plain> Deref for Draft<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Plain> DerefMut for Draft<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let start = self.0.start();
        // SAFETY: as in `Array::deref`; a draft is the only array with this range, since arenas
        // give out every byte once and drafts cannot be cloned.
        unsafe { std::slice::from_raw_parts_mut(start, self.0.len) }
    }
}

impl<T> Array<T> {
    fn start(&self) -> *mut T {
        self.chunk.start.as_ptr().wrapping_add(self.offset).cast()
    }
}

impl<T: Plain> Deref for Array<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `Arena::zeroed` found offset and length in the chunk, which this array keeps
        // mapped; it is aligned (mappings are, to a system page, and offsets to ALIGN), was
        // zeroed, and any bits are a T.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        Self { chunk: self.chunk.clone(), ..*self }
    }
}

impl<T> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Array({})", self.len)
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.bytes)
    }
}

// SAFETY: a chunk is memory that nothing else refers to; arrays in it are read only, and drafts
// are each one's own.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

/// Alignment of every array: a cache line.
const ALIGN: usize = 64;

/// Bytes of a chunk: many huge pages, and little to leave unused at its end.
const CHUNK: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_zeroed_and_apart() {
        let mut arena = Arena::new();
        let lengths = [1, 63, 64, 65, 100_000, CHUNK / 4 + 1, 0, CHUNK / 5, CHUNK / 5, 7];
        let mut arrays = Vec::new();
        for (i, len) in lengths.into_iter().cycle().take(40).enumerate() {
            let mut draft = arena.zeroed::<u8>(len);
            assert!(draft.iter().all(|&byte| byte == 0) && draft.len() == len);
            draft.fill(i as u8 + 1);
            arrays.push(draft.finish());
        }
        for (i, array) in arrays.iter().enumerate() {
            assert!(array.iter().all(|&byte| byte == i as u8 + 1), "array {i}");
            assert!(array.as_ptr().addr().is_multiple_of(ALIGN));
        }
    }
}

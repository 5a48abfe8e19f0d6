//! Vectors that lie on cache lines: one that straddles two costs two reads.

use super::page::Lane16;
use crate::simd::lanes::LANES;
use std::ops::{Deref, DerefMut};

/// A growing array of vectors, each on a line of its own.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<Line>);

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line(Lane16);

impl Lines {
    /// Makes room for `length` vectors.
    pub(super) fn grow(&mut self, length: usize) {
        if self.0.len() < length {
            self.0.resize(length, Line([0.0; LANES]));
        }
    }
}

impl Deref for Lines {
    type Target = [Lane16];

    fn deref(&self) -> &[Lane16] {
        const { assert!(size_of::<Line>() == size_of::<Lane16>()) };
        // SAFETY: a line is its vector, with no byte beside it.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len()) }
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [Lane16] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len()) }
    }
}

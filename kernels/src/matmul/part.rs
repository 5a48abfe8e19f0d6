//! Some groups of a panel of weights, as products take them: scales decoded, codes packed or not.

use super::codes::{Codes, QUADS, whole};
use super::quantized::Line;
use super::scales::GroupScales;
use crate::simd::Simd;
use std::ops::Range;

/// Scales decoded at a time, those of whole records, which have 16 at most: with the codes of their
/// groups unpacked they are 25 KB for two panels, which stay in L1 while all tiles use them.
pub(super) const DECODED: usize = 20;

/// Room for the codes of a part, a line for each column quad.
pub(super) struct Lines([Line; DECODED * QUADS]);

impl Lines {
    pub(super) const ZERO: Self = Self([Line::ZERO; _]);
}

/// Some groups of a panel.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) panel: usize,
    /// The first group.
    pub(super) first: usize,
    pub(super) lines: &'a [Line],
    pub(super) scales: &'a [GroupScales],
}

impl<'a> Part<'a> {
    pub(super) const EMPTY: Self = Self { panel: 0, first: 0, lines: &[], scales: &[] };

    /// Its codes, a line for each column quad.
    #[inline(always)]
    pub(super) fn unpack<'t, S: Simd, C: Codes>(&self, simd: S, to: &'t mut Lines) -> &'t [Line] {
        let to = &mut to.0[..self.lines.len() / C::LINES * QUADS];
        for (lines, to) in self.lines.chunks_exact(C::LINES).zip(to.chunks_exact_mut(QUADS)) {
            for part in 0..S::PARTS {
                let from = (lines, part);
                unpack_quads::<S, C, 0, 4>(simd, from, to);
                unpack_quads::<S, C, 1, 5>(simd, from, to);
                unpack_quads::<S, C, 2, 6>(simd, from, to);
                unpack_quads::<S, C, 3, 7>(simd, from, to);
            }
        }
        to
    }

    #[inline(always)]
    pub(super) fn groups<C: Codes>(&self) -> Range<usize> {
        self.first..self.first + self.scales.len() / C::SCALES
    }

    /// Lines and scales of each of its groups.
    #[inline(always)]
    pub(super) fn weights<C: Codes>(
        &self,
    ) -> impl Iterator<Item = (&'a [Line], &'a [GroupScales])> + use<'a, C> {
        self.lines.chunks_exact(C::LINES).zip(self.scales.chunks_exact(C::SCALES))
    }

    /// Its group number `at`, as a part.
    #[inline(always)]
    pub(super) fn group<C: Codes>(&self, at: usize) -> Self {
        Self {
            first: self.first + at,
            lines: &self.lines[at * C::LINES..(at + 1) * C::LINES],
            scales: &self.scales[at * C::SCALES..(at + 1) * C::SCALES],
            ..*self
        }
    }
}

/// Writes the codes of quads `L` and `H`, whose nibbles share a line.
#[inline(always)]
fn unpack_quads<S: Simd, C: Codes, const L: usize, const H: usize>(
    simd: S,
    (lines, part): (&[Line], usize),
    to: &mut [Line],
) {
    let nibbles = simd.codes(&lines[L].0, part);
    let low = whole::<S, C, L>(simd, (lines, part), simd.low(nibbles));
    let high = whole::<S, C, H>(simd, (lines, part), simd.high(nibbles));
    simd.store_codes(low, &mut to[L].0, part);
    simd.store_codes(high, &mut to[H].0, part);
}

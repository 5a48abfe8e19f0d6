//! How a product is cut: strips of panels for threads, tiles of tokens for registers.

use crate::cpu::Disjoint;
use crate::simd::LANES;
use std::ops::Range;

/// Tokens of the largest register tile.
pub(super) const TILE: usize = 8;

/// Some panels of the weights times some tokens.
pub(super) struct Strip<'a> {
    /// Panels of 16 weight rows.
    pub(super) panels: Range<usize>,
    /// Tokens.
    pub(super) tokens: Range<usize>,
    /// `[tokens of the product, rows]`: no other strip writes these panels' columns.
    pub(super) out: &'a Disjoint<'a, f32>,
    /// Weight rows.
    pub(super) rows: usize,
}

/// 8, 4, 2 or 1 consecutive tokens.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) first: usize,
    pub(super) len: usize,
}

/// Cuts tokens into tiles, the largest first.
#[inline(always)]
pub(super) fn tiles(tokens: Range<usize>) -> impl Iterator<Item = Tile> {
    let mut first = tokens.start;
    std::iter::from_fn(move || {
        let left = tokens.end - first;
        let len = if left >= TILE { TILE } else { left.checked_ilog2().map(|log| 1 << log)? };
        let tile = Tile { first, len };
        first += len;
        Some(tile)
    })
}

impl Strip<'_> {
    /// The outputs of one token and one panel, fewer than 16 in the last panel.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "strips write disjoint parts of one output")]
    fn outputs(&self, panel: usize, token: usize) -> &mut [f32] {
        debug_assert!(self.panels.contains(&panel) && self.tokens.contains(&token), "own outputs");
        let row = token * self.rows;
        let lanes = panel * LANES..((panel + 1) * LANES).min(self.rows);
        // SAFETY: no other strip has this panel and this token, and a strip is worked on by one
        // thread, which drops one such slice before it asks for the next.
        unsafe { self.out.range(row + lanes.start..row + lanes.end) }
    }

    /// Writes the outputs of a tile.
    #[inline(always)]
    pub(super) fn store(&self, panel: usize, tile: Tile, sums: &[[f32; LANES]]) {
        for (t, sums) in sums.iter().enumerate().take(tile.len) {
            let out = self.outputs(panel, tile.first + t);
            match out.as_mut_array() {
                Some(out) => *out = *sums,
                None => out.copy_from_slice(&sums[..out.len()]),
            }
        }
    }

    /// Reads what an earlier [`Strip::store`] wrote.
    #[inline(always)]
    pub(super) fn load(&self, panel: usize, tile: Tile, sums: &mut [[f32; LANES]]) {
        for (t, sums) in sums.iter_mut().enumerate().take(tile.len) {
            let out = self.outputs(panel, tile.first + t);
            match out.as_array() {
                Some(out) => *sums = *out,
                None => sums[..out.len()].copy_from_slice(out),
            }
        }
    }
}

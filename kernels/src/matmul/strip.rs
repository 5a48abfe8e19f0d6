//! How a product is cut: strips of panels for threads, tiles of tokens for registers.

use crate::cpu::Disjoint;
use crate::simd::{LANES, Simd};
use std::ops::Range;

/// Tokens whose activations lie side by side: a whole number of those that registers hold.
pub(super) const TILE: usize = 12;

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

/// Consecutive tokens.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) first: usize,
    pub(super) len: usize,
}

/// Cuts tokens into tiles of [`TILE`], the last of what is left.
#[inline(always)]
pub(super) fn tiles(tokens: Range<usize>) -> impl Iterator<Item = Tile> {
    let end = tokens.end;
    tokens.step_by(TILE).map(move |first| Tile { first, len: TILE.min(end - first) })
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

    /// The outputs of one token and `P` panels from `panel` on; `None` where the last is not whole.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "as for `outputs`")]
    fn whole<const P: usize>(&self, panel: usize, token: usize) -> Option<&mut [[f32; LANES]; P]> {
        let lanes = panel * LANES..(panel + P) * LANES;
        if lanes.end > self.rows {
            return None;
        }
        debug_assert!(self.panels.contains(&(panel + P - 1)), "own outputs");
        debug_assert!(self.panels.contains(&panel) && self.tokens.contains(&token), "own outputs");
        let row = token * self.rows;
        // SAFETY: as in `outputs`, for each of the panels.
        let out = unsafe { self.out.range(row + lanes.start..row + lanes.end) };
        out.as_chunks_mut().0.as_mut_array()
    }

    /// Writes part `part` of the outputs of a token and the panels from `panel` on.
    #[inline(always)]
    pub(super) fn store<S: Simd, const P: usize>(
        &self,
        simd: S,
        (panel, token): (usize, usize),
        values: [S::F32; P],
        part: usize,
    ) {
        if let Some(out) = self.whole::<P>(panel, token) {
            for p in 0..P {
                simd.store(values[p], &mut out[p], part);
            }
            return;
        }
        for (p, value) in values.into_iter().enumerate() {
            let out = self.outputs(panel + p, token);
            let mut whole = [0.0; LANES];
            whole[..out.len()].copy_from_slice(out);
            simd.store(value, &mut whole, part);
            out.copy_from_slice(&whole[..out.len()]);
        }
    }

    /// Reads what an earlier [`Strip::store`] wrote.
    #[inline(always)]
    pub(super) fn load<S: Simd, const P: usize>(
        &self,
        simd: S,
        (panel, token): (usize, usize),
        part: usize,
    ) -> [S::F32; P] {
        let mut values = [simd.splat(0.0); P];
        if let Some(out) = self.whole::<P>(panel, token) {
            for p in 0..P {
                values[p] = simd.load(&out[p], part);
            }
            return values;
        }
        for (p, value) in values.iter_mut().enumerate() {
            let out = self.outputs(panel + p, token);
            let mut whole = [0.0; LANES];
            whole[..out.len()].copy_from_slice(out);
            *value = simd.load(&whole, part);
        }
        values
    }
}

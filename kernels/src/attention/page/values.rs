//! Values of the rows of a page, weighted and added up.

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]

use super::scores::{SCORES_LINE, ScoresLine, tile};
use super::{Lane16, Panels, next_of};
use crate::kv::{Element, GROUP_DIMS, PAGE_ROWS_MAX, scale_of};
use crate::simd::lanes::{LANES, Lanes, prefetch};
use half::bf16;
use std::ops::Range;

/// Some queries of a tile that see the same rows of a page.
pub(super) struct Weights<'a> {
    /// A weight for each row.
    pub(super) of_rows: &'a [ScoresLine],
    /// Rows that are read, in the page.
    pub(super) seen: Range<usize>,
    /// `[queries]`: what the earlier sums are multiplied by.
    pub(super) decay: &'a [f32],
}

/// `out <- out * decay + sum of weight * V` for `out` (`[queries, dv]`).
#[inline(always)]
pub(super) fn weigh<L: Lanes, E: Element>(
    l: L,
    panels: Panels<'_, E>,
    by: &Weights<'_>,
    out: &mut [Lane16],
) {
    let mut done = 0;
    // One round, but where queries at the edge of what they see differ from others of their tile.
    while done < by.decay.len() {
        let tile = tile::<L>(by.decay.len() - done);
        let part = Weights {
            of_rows: &by.of_rows[done..done + tile],
            seen: by.seen.clone(),
            decay: &by.decay[done..done + tile],
        };
        let to = &mut out[done * panels.dv..(done + tile) * panels.dv];
        match tile {
            6 => weigh_tile::<L, E, 6>(l, panels, &part, to),
            4 => weigh_tile::<L, E, 4>(l, panels, &part, to),
            3 => weigh_tile::<L, E, 3>(l, panels, &part, to),
            2 => weigh_tile::<L, E, 2>(l, panels, &part, to),
            _ => weigh_tile::<L, E, 1>(l, panels, &part, to),
        }
        done += tile;
    }
}

#[inline(always)]
fn weigh_tile<L: Lanes, E: Element, const T: usize>(
    l: L,
    panels: Panels<'_, E>,
    by: &Weights<'_>,
    out: &mut [Lane16],
) {
    let mut first = 0;
    while L::WIDE && first + 4 <= panels.dv {
        weigh_vectors::<L, E, T, 4>(l, (panels, first), by, out);
        first += 4;
    }
    while first + 2 <= panels.dv {
        weigh_vectors::<L, E, T, 2>(l, (panels, first), by, out);
        first += 2;
    }
    if first < panels.dv {
        weigh_vectors::<L, E, T, 1>(l, (panels, first), by, out);
    }
}

/// `T` queries with `N` vectors of dims: each dim is one chain over the rows.
#[expect(clippy::needless_range_loop, reason = "a row is of its page, of V and of every query")]
#[inline(always)]
fn weigh_vectors<L: Lanes, E: Element, const T: usize, const N: usize>(
    l: L,
    (panels, first): (Panels<'_, E>, usize),
    by: &Weights<'_>,
    out: &mut [Lane16],
) {
    let dv = panels.dv;
    let weights: [&[f32; SCORES_LINE * LANES]; T] =
        std::array::from_fn(|t| by.of_rows[t].as_flattened().first_chunk().expect("a whole line"));
    let mut sums = [[l.splat(0.0); N]; T];
    for t in 0..T {
        let decay = l.splat(by.decay[t]);
        for n in 0..N {
            sums[t][n] = l.mul(l.load(&out[t * dv + first + n]), decay);
        }
    }
    let next = next_of(&panels.next[1]);
    let mut scale = l.splat(0.0);
    for row in by.seen.start..by.seen.end.min(PAGE_ROWS_MAX) {
        if let Some(next) = next {
            if let Some(next) = next.numbers.get(row * dv + first..).and_then(|v| v.get(..N)) {
                prefetch(next.as_flattened());
            }
            if E::SCALED
                && let Some(scale) = next.scales.get(row * dv.div_ceil(GROUP_DIMS / LANES))
            {
                prefetch(std::slice::from_ref(scale));
            }
        }
        let v = &panels.v.numbers[row * dv + first..][..N];
        let mut wide = [l.splat(0.0); N];
        for n in 0..N {
            if E::SCALED {
                scale = v_scale(l, panels.v.scales, row, first + n, dv);
            }
            wide[n] = E::load(l, &v[n], scale);
        }
        for t in 0..T {
            let weight = l.splat(weights[t][row]);
            for n in 0..N {
                sums[t][n] = l.mul_add(weight, wide[n], sums[t][n]);
            }
        }
    }
    for (t, sums) in sums.into_iter().enumerate() {
        for (n, sum) in sums.into_iter().enumerate() {
            l.store(sum, &mut out[t * dv + first + n]);
        }
    }
}

/// The scale of vector `v` of `dv` in row `row` of V.
#[inline(always)]
pub(super) fn v_scale<L: Lanes>(l: L, scales: &[bf16], row: usize, v: usize, dv: usize) -> L::V {
    const GROUP: usize = GROUP_DIMS / LANES;
    l.splat(scale_of(scales[row * dv.div_ceil(GROUP) + v / GROUP]))
}

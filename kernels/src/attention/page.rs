//! Attention of some queries over one page: scores, online softmax (Milakov & Gimelshein 2018,
//! arXiv:1805.02867), weighted values.
//!
//! Compiled once per instruction set and number format. Vectors lie in arrays of 16; `nv` vectors
//! hold the rows of a page, `dv` the dims of a head.

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]

mod scores;
mod softmax;
mod values;

pub(super) use scores::{Pack, SCORES_LINE, ScoresLine, TILE_MAX, score, tile};
pub(super) use softmax::{Sight, Softcap, largest, soften, vectors};

use crate::kv::{Element, Side};
use crate::simd::lanes::{LANES, Lanes, OnLanes, prefetch_bytes};
use half::bf16;
use scores::k_scale;
use softmax::{soften_seen, soften_whole};
use std::ops::Range;
use values::{Weights, v_scale, weigh};

/// Sixteen floats.
pub(super) type Lane16 = [f32; LANES];

/// K `[dims, nv]` (vectors of rows) or V `[rows, dv]` (vectors of dims) of one head of a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vectors<'a, E> {
    pub(super) numbers: &'a [[E; LANES]],
    /// Where numbers are codes: of K `[groups, nv]` vectors of rows, of V `[rows, groups]`.
    pub(super) scales: &'a [bf16],
}

impl<E> Vectors<'_, E> {
    /// None.
    pub(super) const EMPTY: Self = Self { numbers: &[], scales: &[] };
}

/// K and V of one head of a page.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a, E> {
    pub(super) k: Vectors<'a, E>,
    pub(super) v: Vectors<'a, E>,
    /// K and V that are read next, to be fetched from memory meanwhile; or nothing.
    pub(super) next: [Vectors<'a, E>; 2],
    pub(super) nv: usize,
    pub(super) dv: usize,
}

/// What a split has seen so far, and room for the tile at hand. Shapes in vectors.
pub(super) struct State<'a> {
    /// Largest score: `[queries]`, floats.
    pub(super) max: &'a mut [f32],
    /// Sums of `exp(score - max)`, by lane: `[queries]`.
    pub(super) sums: &'a mut [Lane16],
    /// Sums of `exp(score - max) V`: `[queries, dv]`.
    pub(super) weighted: &'a mut [Lane16],
    /// Scores of a tile, then weights: a line for each query. And room for the scores of the next.
    pub(super) scores: [&'a mut [ScoresLine]; 2],
}

/// One page to be added to the state of some queries.
pub(super) struct Page<'a, E> {
    pub(super) panels: Panels<'a, E>,
    /// Rotated, scaled and packed, see [`Pack`].
    pub(super) q: &'a [f32],
    pub(super) dims: usize,
    /// Rows of the page that queries see: one range for all of them, or one for each.
    pub(super) seen: &'a [Range<usize>],
    /// Rows of the page that nobody sees, a word for each vector; empty: none.
    pub(super) hidden: &'a [u16],
    /// What will be copied for the next page, to be fetched from memory meanwhile; or nothing.
    pub(super) ahead: [Ahead; 2],
    pub(super) softcap: Option<Softcap>,
    pub(super) state: State<'a>,
}

/// A place in memory that is read soon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    from: *const u8,
    bytes: usize,
}

impl Ahead {
    /// None.
    pub(super) const NOTHING: Self = Self { from: std::ptr::null(), bytes: 0 };

    pub(super) fn of<T>(data: &[T]) -> Self {
        Self { from: data.as_ptr().cast(), bytes: size_of_val(data) }
    }

    /// Fetches the share of it that `part` has of `whole`.
    #[inline(always)]
    fn fetch(self, part: Range<usize>, whole: usize) {
        let at = |part: usize| (self.bytes * part / whole).next_multiple_of(64);
        prefetch_bytes(self.from, at(part.start)..at(part.end).min(self.bytes));
    }
}

impl<E: Element> OnLanes for Page<'_, E> {
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { panels, q, dims, seen, hidden, ahead, softcap, mut state } = self;
        let nv = panels.nv;
        // All queries see all rows of all vectors, as they are: so it is with most pages.
        let everything = 0..nv * LANES;
        let whole =
            hidden.is_empty() && softcap.is_none() && matches!(seen, [s] if *s == everything);
        let queries = state.max.len();
        let (mut first, mut last) = (0, 0);
        // A tile goes all the way while its scores are in the first-level cache, one behind the tile
        // that is scored: its exponentials are waited for while that one's products are made.
        loop {
            let next = last + tile::<L>(queries - last);
            // By and by: more at once would be waited for.
            for ahead in ahead {
                if ahead.bytes > 0 {
                    ahead.fetch(last..next, queries);
                }
            }
            if last < next {
                score(l, panels, &q[last * dims..next * dims], next - last, state.scores[1]);
            }
            if first < last {
                let scores = &mut *state.scores[0];
                let (max, sums) = (&mut state.max[first..last], &mut state.sums[first..last]);
                let decay = if whole {
                    soften_whole(l, nv, (scores, max, sums))
                } else {
                    let seen = |t: usize| Sight { seen: of_query(seen, first + t), hidden };
                    soften_seen(l, nv, (scores, max, sums), (seen, softcap))
                };
                state.weigh(l, panels, seen, (first, last), &decay);
            }
            if last == next {
                break;
            }
            state.scores.swap(0, 1);
            (first, last) = (last, next);
        }
    }
}

/// What query `i` sees.
#[inline(always)]
pub(super) fn of_query(seen: &[Range<usize>], i: usize) -> &Range<usize> {
    if let [all] = seen { all } else { &seen[i] }
}

impl State<'_> {
    /// Adds the values of the page, weighted, to the tile of queries `first` to `last`.
    #[inline(always)]
    fn weigh<L: Lanes, E: Element>(
        &mut self,
        l: L,
        panels: Panels<'_, E>,
        seen: &[Range<usize>],
        (first, last): (usize, usize),
        decay: &Lane16,
    ) {
        let dv = panels.dv;
        let mut begin = first;
        while begin < last {
            let rows = of_query(seen, begin);
            // Queries that see the same rows share the reading of V.
            let mut end = begin + 1;
            while end < last && of_query(seen, end) == rows {
                end += 1;
            }
            if !rows.is_empty() {
                let by = Weights {
                    of_rows: &self.scores[0][begin - first..end - first],
                    seen: rows.clone(),
                    decay: &decay[begin - first..end - first],
                };
                weigh(l, panels, &by, &mut self.weighted[begin * dv..end * dv]);
            }
            begin = end;
        }
    }
}

/// Stored numbers to be copied as f32.
pub(super) struct Widen<'a, E> {
    pub(super) from: Vectors<'a, E>,
    pub(super) side: Side,
    /// Vectors of a dim of K, or of a row of V.
    pub(super) line: usize,
    pub(super) to: &'a mut [Lane16],
}

impl<E: Element> OnLanes for Widen<'_, E> {
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { from: Vectors { numbers, scales }, side, line, to } = self;
        let mut scale = l.splat(0.0);
        for (i, (from, to)) in numbers.iter().zip(to).enumerate() {
            if E::SCALED {
                let (line, vector) = (i / line, i % line);
                scale = match side {
                    Side::K => k_scale(l, scales, line, vector, self.line),
                    Side::V => v_scale(l, scales, line, vector, self.line),
                };
            }
            l.store(E::load(l, from, scale), to);
        }
    }
}

/// What is to be fetched meanwhile. Of f32 nothing: nearly always that is a copy, which has no next.
#[inline(always)]
fn next_of<'v, 'a, E>(next: &'v Vectors<'a, E>) -> Option<&'v Vectors<'a, E>> {
    (const { size_of::<E>() < size_of::<f32>() }).then_some(next)
}

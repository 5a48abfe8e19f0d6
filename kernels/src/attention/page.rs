//! Attention of some queries over one page: scores, online softmax (Milakov & Gimelshein 2018,
//! arXiv:1805.02867), weighted values.
//!
//! Compiled once per instruction set and number format. Vectors lie in arrays of 16; `nv` vectors
//! hold the rows of a page, `dv` the dims of a head.

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]

use crate::kv::{Element, GROUP_DIMS, Side, scale_of};
use crate::simd::lanes::{LANES, Lanes, OnLanes, prefetch};
use half::bf16;
use std::ops::Range;

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

/// What a split has seen so far, and room for the page at hand. Shapes in vectors.
pub(super) struct State<'a> {
    /// Largest score: `[queries]`, floats.
    pub(super) max: &'a mut [f32],
    /// Sums of `exp(score - max)`, by lane: `[queries]`.
    pub(super) sums: &'a mut [Lane16],
    /// Sums of `exp(score - max) V`: `[queries, dv]`.
    pub(super) weighted: &'a mut [Lane16],
    /// `[queries, nv]`.
    pub(super) scores: &'a mut [Lane16],
    /// What earlier sums are multiplied by: `[queries]` floats, up to whole vectors.
    pub(super) decay: &'a mut [Lane16],
}

/// One page to be added to the state of some queries.
pub(super) struct Page<'a, E> {
    pub(super) panels: Panels<'a, E>,
    /// Rotated and scaled, `[queries, dims]`.
    pub(super) q: &'a [f32],
    pub(super) dims: usize,
    /// Rows of the page that queries see: one range for each `group` of them.
    pub(super) seen: &'a [Range<usize>],
    /// Rows of the page that nobody sees, a word for each vector; empty: none.
    pub(super) hidden: &'a [u16],
    pub(super) group: usize,
    pub(super) softcap: Option<Softcap>,
    pub(super) state: State<'a>,
}

/// Squashes a score `x` to `to * tanh(x / cap)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Softcap {
    pub(super) cap: f32,
    pub(super) to: f32,
}

/// Rows of a page that a query sees.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    pub(super) seen: &'a Range<usize>,
    pub(super) hidden: &'a [u16],
}

impl<E: Element> OnLanes for Page<'_, E> {
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        // Pages that hide nothing, which most are, do not ask at every vector.
        if self.hidden.is_empty() { self.attend::<L, false>(l) } else { self.attend::<L, true>(l) }
    }
}

impl<E: Element> Page<'_, E> {
    #[inline(always)]
    fn attend<L: Lanes, const HIDES: bool>(self, l: L) {
        let Self { panels, q, dims, seen, hidden, group, softcap, state } = self;
        let Panels { nv, dv, .. } = panels;
        score(l, panels, q, dims, state.scores);
        let decay = state.decay.as_flattened_mut();
        let of_rows = state.scores.chunks_exact_mut(group * nv);
        let of_rows = of_rows.zip(state.max.chunks_exact_mut(group)).zip(decay.chunks_mut(group));
        for (((scores, max), decay), seen) in of_rows.zip(seen) {
            let of_queries = scores.chunks_exact_mut(nv).zip(max).zip(decay);
            for ((scores, max), decay) in of_queries {
                let sight = Sight { seen, hidden };
                let now = largest::<L, HIDES>(l, scores, sight, softcap, *max);
                // Where nothing changed the difference of infinities would be no number.
                *decay = if *max == now { 0.0 } else { *max - now };
                *max = now;
            }
        }
        for decay in state.decay.iter_mut() {
            l.store(l.exp(l.load(decay)), decay);
        }
        let decay = state.decay.as_flattened();
        let mut row = 0;
        while row < seen.len() {
            // Rows that see the same share the reading of V.
            let alike = seen[row..].iter().take_while(|s| **s == seen[row]).count();
            let (block, seen) = (row * group..(row + alike) * group, seen[row].clone());
            row += alike;
            if seen.is_empty() {
                continue;
            }
            for q in block.clone() {
                let scores = &mut state.scores[q * nv..(q + 1) * nv];
                let sight = Sight { seen: &seen, hidden };
                soften::<L, HIDES>(l, scores, sight, state.max[q], (decay[q], &mut state.sums[q]));
            }
            let weights = &state.scores[block.start * nv..block.end * nv];
            let by = Weights { of_rows: weights, seen, decay: &decay[block.clone()] };
            weigh(l, panels, &by, &mut state.weighted[block.start * dv..block.end * dv]);
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

/// The scales of dim `d` of K in vector `v` of `nv`.
#[inline(always)]
fn k_scale<L: Lanes>(l: L, scales: &[bf16], d: usize, v: usize, nv: usize) -> L::V {
    l.load_bf16(&scales.as_chunks().0[d / GROUP_DIMS * nv + v])
}

/// The scale of vector `v` of `dv` in row `row` of V.
#[inline(always)]
fn v_scale<L: Lanes>(l: L, scales: &[bf16], row: usize, v: usize, dv: usize) -> L::V {
    const GROUP: usize = GROUP_DIMS / LANES;
    l.splat(scale_of(scales[row * dv.div_ceil(GROUP) + v / GROUP]))
}

/// Fills `scores` (`[queries, nv]`) with `q · k` for queries `q` (`[queries, dims]`).
#[inline(always)]
pub(super) fn score<L: Lanes, E: Element>(
    l: L,
    panels: Panels<'_, E>,
    q: &[f32],
    dims: usize,
    scores: &mut [Lane16],
) {
    let nv = panels.nv;
    let (mut q, mut scores) = (q, scores);
    while !q.is_empty() {
        let tile = tile::<L>(q.len() / dims);
        let (now, later) = q.split_at(tile * dims);
        let (to, rest) = scores.split_at_mut(tile * nv);
        match tile {
            6 => score_tile::<L, E, 6>(l, panels, now, dims, to),
            4 => score_tile::<L, E, 4>(l, panels, now, dims, to),
            3 => score_tile::<L, E, 3>(l, panels, now, dims, to),
            2 => score_tile::<L, E, 2>(l, panels, now, dims, to),
            _ => score_tile::<L, E, 1>(l, panels, now, dims, to),
        }
        (q, scores) = (later, rest);
    }
}

/// Queries that are taken together of those that are left: as many as leave registers for what they
/// share.
#[inline(always)]
fn tile<L: Lanes>(left: usize) -> usize {
    match left {
        _ if !L::WIDE => left.min(2),
        // Not 6 and 1, or 4 and 1.
        7 => 4,
        5 => 3,
        _ => left.min(6),
    }
}

#[inline(always)]
fn score_tile<L: Lanes, E: Element, const T: usize>(
    l: L,
    panels: Panels<'_, E>,
    q: &[f32],
    dims: usize,
    scores: &mut [Lane16],
) {
    let mut first = 0;
    while first + 2 <= panels.nv {
        score_vectors::<L, E, T, 2>(l, (panels, first), q, dims, scores);
        first += 2;
    }
    if first < panels.nv {
        score_vectors::<L, E, T, 1>(l, (panels, first), q, dims, scores);
    }
}

/// `T` queries with `N` vectors of rows: each score is the sum of two chains, over the even and over
/// the odd dims.
#[inline(always)]
fn score_vectors<L: Lanes, E: Element, const T: usize, const N: usize>(
    l: L,
    (panels, first): (Panels<'_, E>, usize),
    q: &[f32],
    dims: usize,
    scores: &mut [Lane16],
) {
    let mut rows = [q; T];
    for (t, row) in rows.iter_mut().enumerate() {
        *row = &q[t * dims..][..dims];
    }
    let (nv, next) = (panels.nv, next_of(&panels.next[0]));
    let mut sums = [[[l.splat(0.0); N]; T]; 2];
    let mut scales = [l.splat(0.0); N];
    // By index: pieces of a length known at run time only cost a division each.
    let k = &panels.k.numbers[first..(dims - 1) * nv + first + N];
    for d in (0..dims).step_by(2) {
        if E::SCALED && d.is_multiple_of(GROUP_DIMS) {
            let group = (d / GROUP_DIMS * nv + first) * LANES;
            if let Some(next) = next.and_then(|next| next.scales.get(group..group + N * LANES)) {
                prefetch(next);
            }
            for (n, scale) in scales.iter_mut().enumerate() {
                *scale = k_scale(l, panels.k.scales, d, first + n, nv);
            }
        }
        for (odd, sums) in sums.iter_mut().enumerate() {
            let d = d + odd;
            if d == dims {
                break;
            }
            if let Some(next) = next.and_then(|next| next.numbers.get(d * nv + first)) {
                prefetch(next);
            }
            let k = &k[d * nv..][..N];
            for n in 0..N {
                let k = E::load(l, &k[n], scales[n]);
                for t in 0..T {
                    let q = l.splat(rows[t][d]);
                    sums[t][n] = l.mul_add(q, k, sums[t][n]);
                }
            }
        }
    }
    for t in 0..T {
        let to = &mut scores[t * nv + first..][..N];
        for n in 0..N {
            l.store(l.add(sums[0][t][n], sums[1][t][n]), &mut to[n]);
        }
    }
}

/// What is to be fetched meanwhile. Of f32 nothing: nearly always that is a copy, which has no next.
#[inline(always)]
fn next_of<'v, 'a, E>(next: &'v Vectors<'a, E>) -> Option<&'v Vectors<'a, E>> {
    (const { size_of::<E>() < size_of::<f32>() }).then_some(next)
}

/// Caps the scores of one query, hides rows it does not see, and returns the largest of `before`
/// and those it sees.
#[inline(always)]
pub(super) fn largest<L: Lanes, const HIDES: bool>(
    l: L,
    scores: &mut [Lane16],
    sight: Sight<'_>,
    softcap: Option<Softcap>,
    before: f32,
) -> f32 {
    let mut largest = l.splat(before);
    for v in vectors(sight.seen) {
        let mut s = l.load(&scores[v]);
        if let Some(Softcap { cap, to }) = softcap {
            s = l.mul(l.splat(to), l.tanh(l.div(s, l.splat(cap))));
        }
        if let Some(bits) = partly::<HIDES>(sight, v) {
            s = l.keep(s, bits, l.splat(f32::NEG_INFINITY));
        }
        l.store(s, &mut scores[v]);
        largest = l.max(s, largest);
    }
    l.largest(largest)
}

/// Turns the scores of one query into `exp(score - max)`, 0 where it does not see, and adds them
/// to its sums.
#[inline(always)]
pub(super) fn soften<L: Lanes, const HIDES: bool>(
    l: L,
    scores: &mut [Lane16],
    sight: Sight<'_>,
    max: f32,
    (decay, sums): (f32, &mut Lane16),
) {
    let mut sum = l.mul(l.load(sums), l.splat(decay));
    for v in vectors(sight.seen) {
        let mut weight = l.exp(l.sub(l.load(&scores[v]), l.splat(max)));
        if let Some(bits) = partly::<HIDES>(sight, v) {
            weight = l.keep(weight, bits, l.splat(0.0));
        }
        l.store(weight, &mut scores[v]);
        sum = l.add(sum, weight);
    }
    l.store(sum, sums);
}

/// The vectors that hold rows in `seen`.
pub(super) fn vectors(seen: &Range<usize>) -> Range<usize> {
    if seen.is_empty() { 0..0 } else { seen.start / LANES..seen.end.div_ceil(LANES) }
}

/// Which lanes of vector `v` are rows that are seen, where not all are.
#[inline(always)]
fn partly<const HIDES: bool>(Sight { seen, hidden }: Sight<'_>, v: usize) -> Option<u16> {
    if !HIDES && seen.start <= v * LANES && (v + 1) * LANES <= seen.end {
        return None;
    }
    let below = |row: usize| ((1_u32 << row.saturating_sub(v * LANES).min(LANES)) - 1) as u16;
    let shown = if HIDES { !hidden.get(v).copied().unwrap_or(0) } else { u16::MAX };
    Some(below(seen.end) & !below(seen.start) & shown)
}

/// Some queries that see the same rows of a page.
struct Weights<'a> {
    /// `[queries, nv]`: a weight for each row.
    of_rows: &'a [Lane16],
    /// Rows that are read, in the page.
    seen: Range<usize>,
    /// `[queries]`: what the earlier sums are multiplied by.
    decay: &'a [f32],
}

/// `out <- out * decay + sum of weight * V` for `out` (`[queries, dv]`).
#[inline(always)]
fn weigh<L: Lanes, E: Element>(l: L, panels: Panels<'_, E>, by: &Weights<'_>, out: &mut [Lane16]) {
    let (nv, dv) = (panels.nv, panels.dv);
    let mut done = 0;
    while done < by.decay.len() {
        let tile = tile::<L>(by.decay.len() - done);
        let part = Weights {
            of_rows: &by.of_rows[done * nv..(done + tile) * nv],
            seen: by.seen.clone(),
            decay: &by.decay[done..done + tile],
        };
        let to = &mut out[done * dv..(done + tile) * dv];
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
#[inline(always)]
fn weigh_vectors<L: Lanes, E: Element, const T: usize, const N: usize>(
    l: L,
    (panels, first): (Panels<'_, E>, usize),
    by: &Weights<'_>,
    out: &mut [Lane16],
) {
    let (nv, dv) = (panels.nv, panels.dv);
    let rows = by.seen.len();
    let mut weights = [[].as_slice(); T];
    let mut sums = [[l.splat(0.0); N]; T];
    for t in 0..T {
        weights[t] = &by.of_rows[t * nv..(t + 1) * nv].as_flattened()[by.seen.clone()][..rows];
        let decay = l.splat(by.decay[t]);
        for n in 0..N {
            sums[t][n] = l.mul(l.load(&out[t * dv + first + n]), decay);
        }
    }
    let next = next_of(&panels.next[1]);
    let mut scale = l.splat(0.0);
    for (r, row) in by.seen.clone().enumerate() {
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
            let weight = l.splat(weights[t][r]);
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

//! Scores of a tile of queries with the rows of a page.

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]

use super::{Lane16, Panels, next_of};
use crate::kv::{Element, GROUP_DIMS, PAGE_ROWS_MAX};
use crate::simd::lanes::{LANES, Lanes, OnLanes, prefetch};
use half::bf16;

/// Room for the scores of a query. Of one length, known when this is compiled: the queries of a tile
/// then share a pointer. An odd one, which spreads them over the sets of a cache.
pub(in crate::attention) type ScoresLine = [Lane16; SCORES_LINE];
pub(in crate::attention) const SCORES_LINE: usize = PAGE_ROWS_MAX / LANES + 1;

/// Fills `scores` with `q · k` for one tile of packed queries.
#[inline(always)]
pub(in crate::attention) fn score<L: Lanes, E: Element>(
    l: L,
    panels: Panels<'_, E>,
    q: &[f32],
    tile: usize,
    scores: &mut [ScoresLine],
) {
    match tile {
        6 => score_tile::<L, E, 6>(l, panels, q, scores),
        4 => score_tile::<L, E, 4>(l, panels, q, scores),
        3 => score_tile::<L, E, 3>(l, panels, q, scores),
        2 => score_tile::<L, E, 2>(l, panels, q, scores),
        _ => score_tile::<L, E, 1>(l, panels, q, scores),
    }
}

/// Queries that are taken together of those that are left: as many as leave registers for what they
/// share.
#[inline(always)]
pub(in crate::attention) fn tile<L: Lanes>(left: usize) -> usize {
    match left {
        _ if !L::WIDE => left.min(2),
        // Not 6 and 1, or 4 and 1.
        7 => 4,
        5 => 3,
        _ => left.min(TILE_MAX),
    }
}

/// The most queries of a tile.
pub(in crate::attention) const TILE_MAX: usize = 6;

#[inline(always)]
fn score_tile<L: Lanes, E: Element, const T: usize>(
    l: L,
    panels: Panels<'_, E>,
    q: &[f32],
    scores: &mut [ScoresLine],
) {
    let q = q.as_chunks().0;
    let mut first = 0;
    while first + 2 <= panels.nv {
        score_vectors::<L, E, T, 2>(l, (panels, first), q, scores);
        first += 2;
    }
    if first < panels.nv {
        score_vectors::<L, E, T, 1>(l, (panels, first), q, scores);
    }
}

/// `T` queries (`[dims, T]`) with `N` vectors of rows: each score is the sum of two chains, over the
/// even and over the odd dims.
#[inline(always)]
fn score_vectors<L: Lanes, E: Element, const T: usize, const N: usize>(
    l: L,
    (panels, first): (Panels<'_, E>, usize),
    q: &[[f32; T]],
    scores: &mut [ScoresLine],
) {
    let (nv, next) = (panels.nv, next_of(&panels.next[0]));
    let mut sums = [[[l.splat(0.0); N]; T]; 2];
    let mut scales = [l.splat(0.0); N];
    let (pairs, last) = q.as_chunks::<2>();
    let k = &panels.k.numbers[first..(q.len() - 1) * nv + first + N];
    for (i, pair) in pairs.iter().enumerate() {
        let d = 2 * i;
        if E::SCALED && d.is_multiple_of(GROUP_DIMS) {
            let group = (d / GROUP_DIMS * nv + first) * LANES;
            if let Some(next) = next.and_then(|next| next.scales.get(group..group + N * LANES)) {
                prefetch(next);
            }
            for (n, scale) in scales.iter_mut().enumerate() {
                *scale = k_scale(l, panels.k.scales, d, first + n, nv);
            }
        }
        for odd in 0..2 {
            let at = (d + odd) * nv;
            if let Some(next) = next.and_then(|next| next.numbers.get(at + first)) {
                prefetch(next);
            }
            add_products(l, &k[at..at + N], &scales, &pair[odd], &mut sums[odd]);
        }
    }
    if let [q] = last {
        let d = 2 * pairs.len();
        if E::SCALED && d.is_multiple_of(GROUP_DIMS) {
            for (n, scale) in scales.iter_mut().enumerate() {
                *scale = k_scale(l, panels.k.scales, d, first + n, nv);
            }
        }
        add_products(l, &k[d * nv..d * nv + N], &scales, q, &mut sums[0]);
    }
    let [even, odd] = sums;
    for (t, (even, odd)) in even.into_iter().zip(odd).enumerate() {
        let to = &mut scores[t][first..first + N];
        for (to, (even, odd)) in to.iter_mut().zip(even.into_iter().zip(odd)) {
            l.store(l.add(even, odd), to);
        }
    }
}

/// Adds what one dim gives to the scores of `T` queries with `N` vectors of rows.
#[inline(always)]
fn add_products<L: Lanes, E: Element, const T: usize, const N: usize>(
    l: L,
    k: &[[E; LANES]],
    scales: &[L::V; N],
    q: &[f32; T],
    sums: &mut [[L::V; N]; T],
) {
    let mut wide = [l.splat(0.0); N];
    for n in 0..N {
        wide[n] = E::load(l, &k[n], scales[n]);
    }
    for t in 0..T {
        let q = l.splat(q[t]);
        for n in 0..N {
            sums[t][n] = l.mul_add(q, wide[n], sums[t][n]);
        }
    }
}

/// The scales of dim `d` of K in vector `v` of `nv`.
#[inline(always)]
pub(super) fn k_scale<L: Lanes>(l: L, scales: &[bf16], d: usize, v: usize, nv: usize) -> L::V {
    l.load_bf16(&scales.as_chunks().0[d / GROUP_DIMS * nv + v])
}

/// Queries to be laid out for [`score`]: the tiles one after another, each `[dims, queries]`.
pub(in crate::attention) struct Pack<'a> {
    /// `[queries, dims]`.
    pub(in crate::attention) from: &'a [f32],
    pub(in crate::attention) dims: usize,
    pub(in crate::attention) to: &'a mut [f32],
}

impl OnLanes for Pack<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self { mut from, dims, mut to } = self;
        while !from.is_empty() {
            let tile = tile::<L>(from.len() / dims);
            let (now, later) = from.split_at(tile * dims);
            let (out, rest) = to.split_at_mut(tile * dims);
            match tile {
                6 => pack_tile::<6>(now, dims, out),
                4 => pack_tile::<4>(now, dims, out),
                3 => pack_tile::<3>(now, dims, out),
                2 => pack_tile::<2>(now, dims, out),
                _ => out.copy_from_slice(now),
            }
            (from, to) = (later, rest);
        }
    }
}

#[inline(always)]
fn pack_tile<const T: usize>(from: &[f32], dims: usize, to: &mut [f32]) {
    let rows: [&[f32]; T] = std::array::from_fn(|t| &from[t * dims..][..dims]);
    for (d, to) in to.as_chunks_mut::<T>().0.iter_mut().take(dims).enumerate() {
        *to = std::array::from_fn(|t| rows[t][d]);
    }
}

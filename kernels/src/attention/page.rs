//! Attention of some queries over one page: scores, online softmax, weighted values.
//!
//! All functions are compiled into their caller, once per instruction set. Vectors lie in arrays
//! of 16; `nv` vectors hold the rows of a page, `dv` the dims of a head.

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]

use crate::kv::Element;
use crate::simd::lanes::{LANES, Lanes};
use std::ops::Range;

/// Sixteen floats.
pub(super) type Lane16 = [f32; LANES];

/// K and V of one head of a page.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a, E> {
    /// `[dims, nv]` vectors of rows.
    pub(super) k: &'a [[E; LANES]],
    /// `[rows, dv]` vectors of dims.
    pub(super) v: &'a [[E; LANES]],
    pub(super) nv: usize,
    pub(super) dv: usize,
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
        let tile = (q.len() / dims).min(if L::WIDE { 4 } else { 2 });
        let (now, later) = q.split_at(tile * dims);
        let (to, rest) = scores.split_at_mut(tile * nv);
        match tile {
            4 => score_tile::<L, E, 4>(l, panels, now, dims, to),
            3 => score_tile::<L, E, 3>(l, panels, now, dims, to),
            2 => score_tile::<L, E, 2>(l, panels, now, dims, to),
            _ => score_tile::<L, E, 1>(l, panels, now, dims, to),
        }
        (q, scores) = (later, rest);
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

/// `T` queries with `N` vectors of rows: each score is one chain over the dims.
#[inline(always)]
fn score_vectors<L: Lanes, E: Element, const T: usize, const N: usize>(
    l: L,
    (panels, first): (Panels<'_, E>, usize),
    q: &[f32],
    dims: usize,
    scores: &mut [Lane16],
) {
    let q: [&[f32]; T] = std::array::from_fn(|t| &q[t * dims..][..dims]);
    let mut sums = [[l.splat(0.0); N]; T];
    for (d, k) in (0..dims).zip(panels.k.chunks_exact(panels.nv)) {
        let k = &k[first..first + N];
        for n in 0..N {
            let k = E::load(l, &k[n]);
            for t in 0..T {
                sums[t][n] = l.mul_add(l.splat(q[t][d]), k, sums[t][n]);
            }
        }
    }
    for (to, sums) in scores.chunks_exact_mut(panels.nv).zip(sums) {
        for n in 0..N {
            l.store(sums[n], &mut to[first + n]);
        }
    }
}

/// Turns the scores of one query into `exp(score - max)` where a row is in `seen`, 0 elsewhere.
/// Updates its running maximum and sums, and returns what its earlier sums are to be multiplied
/// by. `seen` holds a row.
#[inline(always)]
pub(super) fn soften<L: Lanes>(
    l: L,
    scores: &mut [Lane16],
    seen: &Range<usize>,
    softcap: Option<f32>,
    (max, sums): (&mut f32, &mut Lane16),
) -> f32 {
    let least = l.splat(f32::NEG_INFINITY);
    let vectors = seen.start / LANES..seen.end.div_ceil(LANES);
    let mut largest = least;
    for v in vectors.clone() {
        let mut s = l.load(&scores[v]);
        if let Some(cap) = softcap {
            s = l.mul(l.splat(cap), l.tanh(l.div(s, l.splat(cap))));
        }
        let s = l.keep(s, bits(seen, v), least);
        l.store(s, &mut scores[v]);
        largest = l.max(s, largest);
    }
    let before = *max;
    // `largest` second: were it NaN, it would be taken.
    let now = if before > l.largest(largest) { before } else { l.largest(largest) };
    let mut decay = [1.0; LANES];
    if before != now {
        l.store(l.exp(l.splat(before - now)), &mut decay);
    }
    let zero = l.splat(0.0);
    let mut sum = l.mul(l.load(sums), l.splat(decay[0]));
    for v in vectors {
        let p = l.exp(l.sub(l.load(&scores[v]), l.splat(now)));
        let p = l.keep(p, bits(seen, v), zero);
        l.store(p, &mut scores[v]);
        sum = l.add(sum, p);
    }
    l.store(sum, sums);
    *max = now;
    decay[0]
}

/// Which lanes of vector `v` are rows in `seen`.
#[inline(always)]
fn bits(seen: &Range<usize>, v: usize) -> u16 {
    let below = |row: usize| ((1_u32 << row.saturating_sub(v * LANES).min(LANES)) - 1) as u16;
    below(seen.end) & !below(seen.start)
}

/// Some queries that see the same rows of a page.
pub(super) struct Weights<'a> {
    /// `[queries, nv]`: a weight for each row.
    pub(super) weights: &'a [Lane16],
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
    let (nv, dv) = (panels.nv, panels.dv);
    let mut done = 0;
    while done < by.decay.len() {
        let tile = (by.decay.len() - done).min(if L::WIDE { 4 } else { 2 });
        let part = Weights {
            weights: &by.weights[done * nv..(done + tile) * nv],
            seen: by.seen.clone(),
            decay: &by.decay[done..done + tile],
        };
        let to = &mut out[done * dv..(done + tile) * dv];
        match tile {
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
    let weights: [&[f32]; T] = std::array::from_fn(|t| {
        &by.weights[t * nv..(t + 1) * nv].as_flattened()[by.seen.clone()][..rows]
    });
    let mut sums: [[L::V; N]; T] = std::array::from_fn(|t| {
        let decay = l.splat(by.decay[t]);
        std::array::from_fn(|n| l.mul(l.load(&out[t * dv + first + n]), decay))
    });
    for (r, v) in (0..rows).zip(panels.v[by.seen.start * dv..].chunks_exact(dv)) {
        let v = &v[first..first + N];
        let v: [L::V; N] = std::array::from_fn(|n| E::load(l, &v[n]));
        for t in 0..T {
            let weight = l.splat(weights[t][r]);
            for n in 0..N {
                sums[t][n] = l.mul_add(weight, v[n], sums[t][n]);
            }
        }
    }
    for (t, sums) in sums.into_iter().enumerate() {
        for (n, sum) in sums.into_iter().enumerate() {
            l.store(sum, &mut out[t * dv + first + n]);
        }
    }
}

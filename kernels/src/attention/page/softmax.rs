//! Scores to weights: what is capped, what is not seen, the largest so far, `exp`, and the sums.

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]

use super::Lane16;
use super::scores::ScoresLine;
use crate::simd::lanes::{LANES, Lanes};
use std::ops::Range;

/// Squashes a score `x` to `to * tanh(x / cap)`.
#[derive(Clone, Copy, Debug)]
pub(in crate::attention) struct Softcap {
    pub(in crate::attention) cap: f32,
    pub(in crate::attention) to: f32,
}

/// Rows of a page that a query sees.
#[derive(Clone, Copy)]
pub(in crate::attention) struct Sight<'a> {
    pub(in crate::attention) seen: &'a Range<usize>,
    pub(in crate::attention) hidden: &'a [u16],
}

/// What [`largest`] and [`soften`] do for each query of a tile, where all see everything. Returns what
/// earlier sums are to be multiplied by.
#[inline(always)]
pub(super) fn soften_whole<L: Lanes>(
    l: L,
    nv: usize,
    of_tile: (&mut [ScoresLine], &mut [f32], &mut [Lane16]),
) -> Lane16 {
    match of_tile.1.len() {
        6 => soften_tile::<L, 6>(l, nv, of_tile),
        4 => soften_tile::<L, 4>(l, nv, of_tile),
        3 => soften_tile::<L, 3>(l, nv, of_tile),
        2 => soften_tile::<L, 2>(l, nv, of_tile),
        _ => soften_tile::<L, 1>(l, nv, of_tile),
    }
}

#[inline(always)]
fn soften_tile<L: Lanes, const T: usize>(
    l: L,
    nv: usize,
    (scores, max, sums): (&mut [ScoresLine], &mut [f32], &mut [Lane16]),
) -> Lane16 {
    let (scores, max, sums) = (&mut scores[..T], &mut max[..T], &mut sums[..T]);
    // In a register: to load at once what was stored one by one is waited for.
    let mut falls = l.splat(0.0);
    for t in 0..T {
        let mut most = l.splat(max[t]);
        for s in &scores[t][..nv] {
            most = l.max(l.load(s), most);
        }
        let now = l.largest(most);
        falls = l.keep(falls, !(1 << t), l.splat(fall(max[t], now)));
        max[t] = now;
    }
    let mut decay = [0.0; LANES];
    l.store(l.exp(falls), &mut decay);
    for t in 0..T {
        let most = l.splat(max[t]);
        let mut sum = l.mul(l.load(&sums[t]), l.splat(decay[t]));
        // Two at a time, for one waits for itself.
        let (pairs, last) = scores[t][..nv].as_chunks_mut();
        for [a, b] in pairs {
            let weights = [l.exp(l.sub(l.load(a), most)), l.exp(l.sub(l.load(b), most))];
            l.store(weights[0], a);
            l.store(weights[1], b);
            sum = l.add(l.add(sum, weights[0]), weights[1]);
        }
        for s in last {
            let weight = l.exp(l.sub(l.load(s), most));
            l.store(weight, s);
            sum = l.add(sum, weight);
        }
        l.store(sum, &mut sums[t]);
    }
    decay
}

/// As [`soften_whole`], where the query number `t` of the tile has this sight.
#[inline(always)]
pub(super) fn soften_seen<'a, L: Lanes>(
    l: L,
    nv: usize,
    (scores, max, sums): (&mut [ScoresLine], &mut [f32], &mut [Lane16]),
    (sight, softcap): (impl Fn(usize) -> Sight<'a>, Option<Softcap>),
) -> Lane16 {
    let mut decay = [0.0; LANES];
    for (t, max) in max.iter_mut().enumerate() {
        let now = largest(l, &mut scores[t][..nv], sight(t), softcap, *max);
        decay[t] = fall(*max, now);
        *max = now;
    }
    l.store(l.exp(l.load(&decay)), &mut decay);
    for (t, (&max, sums)) in max.iter().zip(sums).enumerate() {
        soften(l, &mut scores[t][..nv], sight(t), max, (decay[t], sums));
    }
    decay
}

/// From the largest score before to the one now: where nothing changed, the difference of infinities
/// would be no number.
#[inline(always)]
fn fall(before: f32, now: f32) -> f32 {
    if before == now { 0.0 } else { before - now }
}

/// Caps the scores of one query, hides rows it does not see, and returns the largest of `before`
/// and those it sees.
#[inline(always)]
pub(in crate::attention) fn largest<L: Lanes>(
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
        if let Some(bits) = partly(sight, v) {
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
pub(in crate::attention) fn soften<L: Lanes>(
    l: L,
    scores: &mut [Lane16],
    sight: Sight<'_>,
    max: f32,
    (decay, sums): (f32, &mut Lane16),
) {
    let max = l.splat(max);
    let mut sum = l.mul(l.load(sums), l.splat(decay));
    for v in vectors(sight.seen) {
        let mut weight = l.exp(l.sub(l.load(&scores[v]), max));
        if let Some(bits) = partly(sight, v) {
            weight = l.keep(weight, bits, l.splat(0.0));
        }
        l.store(weight, &mut scores[v]);
        sum = l.add(sum, weight);
    }
    l.store(sum, sums);
}

/// The vectors that hold rows in `seen`.
pub(in crate::attention) fn vectors(seen: &Range<usize>) -> Range<usize> {
    if seen.is_empty() { 0..0 } else { seen.start / LANES..seen.end.div_ceil(LANES) }
}

/// Which lanes of vector `v` are rows that are seen, where not all are.
#[inline(always)]
fn partly(Sight { seen, hidden }: Sight<'_>, v: usize) -> Option<u16> {
    if hidden.is_empty() && seen.start <= v * LANES && (v + 1) * LANES <= seen.end {
        return None;
    }
    let below = |row: usize| ((1_u32 << row.saturating_sub(v * LANES).min(LANES)) - 1) as u16;
    let shown = !hidden.get(v).copied().unwrap_or(0);
    Some(below(seen.end) & !below(seen.start) & shown)
}

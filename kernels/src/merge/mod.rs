//! The merge of partial attention states: what lets runs, splits of runs and repaired rows be
//! attended to apart.
//!
//! A state over a set of scored rows is `m = max(score)`, `s = sum(exp(score - m))` and
//! `o = sum(exp(score - m) V)`. `o` is kept undivided by `s`, so that the empty set (`m = -inf`,
//! `s = 0`, `o = 0`) is an exact identity; the attention over the set is `o / s`. The operator
//! is that of FlashInfer's `state.cuh` and of Hydragen (Juravsky et al. 2024, arXiv:2402.05099):
//!
//! ```text
//! merge(a, b): m = max(m_a, m_b)
//!              s = s_a exp(m_a - m) + s_b exp(m_b - m)
//!              o = o_a exp(m_a - m) + o_b exp(m_b - m)
//! ```

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use crate::simd::lanes::{LANES, Lanes, OnLanes};

/// Attention of one query and head over some of the rows it sees.
#[derive(Clone, Debug, PartialEq)]
pub struct PartialState {
    /// Largest score; negative infinity over no rows.
    pub max: f32,
    /// Sum of `exp(score - max)`.
    pub sum: f32,
    /// Sum of `exp(score - max) V`, `[head_dim]`.
    pub weighted: Vec<f32>,
}

impl PartialState {
    /// The state over no rows.
    pub fn identity(head_dim: usize) -> Self {
        Self { max: f32::NEG_INFINITY, sum: 0.0, weighted: vec![0.0; head_dim] }
    }

    /// The attention itself, `[head_dim]`: zeros over no rows.
    pub fn finish(&self) -> Vec<f32> {
        let by = if self.sum > 0.0 { 1.0 / self.sum } else { 0.0 };
        self.weighted.iter().map(|x| x * by + 0.0).collect()
    }
}

/// The state over the rows of both, which share none.
///
/// # Panics
/// When the heads differ in length.
pub fn merge(a: &PartialState, b: &PartialState) -> PartialState {
    assert_eq!(a.weighted.len(), b.weighted.len(), "states of one head");
    let mut merged = a.clone();
    let (max, sum) = (&mut merged.max, &mut merged.sum);
    merge_into((max, sum, &mut merged.weighted), (b.max, b.sum, &b.weighted));
    merged
}

/// [`merge`] over borrowed parts: `a <- merge(a, b)`.
fn merge_into(a: (&mut f32, &mut f32, &mut [f32]), b: (f32, f32, &[f32])) {
    let ((m_a, s_a, o_a), (m_b, s_b, o_b)) = (a, b);
    if m_b == f32::NEG_INFINITY {
        return;
    }
    let m = m_a.max(m_b);
    let (by_a, by_b) = ((*m_a - m).exp(), (m_b - m).exp());
    *m_a = m;
    *s_a = *s_a * by_a + s_b * by_b;
    for (x, &y) in o_a.iter_mut().zip(o_b) {
        *x = *x * by_a + y * by_b;
    }
}

/// States side by side: their largest scores, their sums, and `[states, vectors]` of weighted values.
pub(crate) struct States<'a> {
    pub(crate) max: &'a mut [f32],
    pub(crate) sum: &'a mut [f32],
    pub(crate) weighted: &'a mut [[f32; LANES]],
}

/// [`merge_into`] of each of some states, and the one at its place: the same bits, sooner.
pub(crate) struct MergeEach<'a, 's> {
    pub(crate) into: &'a mut States<'s>,
    pub(crate) max: &'a [f32],
    pub(crate) sum: &'a [f32],
    pub(crate) weighted: &'a [[f32; LANES]],
}

impl OnLanes for MergeEach<'_, '_> {
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { into, max, sum, weighted } = self;
        let vectors = into.weighted.len() / into.max.len();
        let own = into.weighted.chunks_exact_mut(vectors).zip(weighted.chunks_exact(vectors));
        let own = own.zip(into.max.iter_mut().zip(into.sum.iter_mut())).zip(max.iter().zip(sum));
        for (((o_a, o_b), (m_a, s_a)), (&m_b, &s_b)) in own {
            if m_b == f32::NEG_INFINITY {
                continue;
            }
            // The larger one stays as it is: one exponential.
            let by = (m_a.min(m_b) - m_a.max(m_b)).exp();
            let (by_a, by_b) = if *m_a < m_b { (by, 1.0) } else { (1.0, by) };
            *m_a = m_a.max(m_b);
            *s_a = *s_a * by_a + s_b * by_b;
            let (by_a, by_b) = (l.splat(by_a), l.splat(by_b));
            for (x, y) in o_a.iter_mut().zip(o_b) {
                l.store(l.add(l.mul(l.load(x), by_a), l.mul(l.load(y), by_b)), x);
            }
        }
    }
}

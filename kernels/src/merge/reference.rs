//! A partial state by its definition, in f64: the specification.

use super::PartialState;

/// The state over rows with these scores and values, by its definition in f64.
pub(super) fn state(rows: &[(f32, [f32; 4])]) -> PartialState {
    let max = rows.iter().fold(f32::NEG_INFINITY, |m, r| m.max(r.0));
    let weight = |s: f32| f64::from(s - max).exp();
    let weighted = |d: usize| rows.iter().map(|(s, v)| weight(*s) * f64::from(v[d])).sum::<f64>();
    let sum = rows.iter().map(|r| weight(r.0)).sum::<f64>() as f32;
    PartialState { max, sum, weighted: (0..4).map(|d| weighted(d) as f32).collect() }
}

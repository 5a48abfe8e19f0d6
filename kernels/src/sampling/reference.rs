//! Filters by sorting, in f64: the specification.

use super::{Filters, top};

/// The tokens a filter keeps, by sorting, with their probabilities.
pub(super) fn kept(logits: &[f32], filters: &Filters) -> Vec<(u32, f64)> {
    let mut all = top(logits, logits.len());
    if filters.top_k > 0 {
        all.truncate(filters.top_k);
    }
    let temperature = f64::from(filters.temperature);
    let mut weights: Vec<_> =
        all.iter().map(|t| (t.0, (f64::from(t.1 - all[0].1) / temperature).exp())).collect();
    if filters.top_p < 1.0 {
        let total: f64 = weights.iter().map(|w| w.1).sum();
        let mut sum = 0.0;
        let needed = weights.iter().take_while(|w| {
            let more = sum < f64::from(filters.top_p) * total;
            sum += w.1;
            more
        });
        let needed = needed.count().max(1);
        weights.truncate(needed);
    }
    weights.retain(|w| w.1 >= f64::from(filters.min_p));
    weights.sort_by_key(|w| w.0);
    let total: f64 = weights.iter().map(|w| w.1).sum();
    weights.iter().map(|w| (w.0, w.1 / total)).collect()
}

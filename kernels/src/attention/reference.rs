//! Attention as its formula says, in f64.

use super::{AttentionShape, Queries};
use crate::kv::{RowOfHead, spread};
use crate::{KvDtype, KvPool, Run};

/// See [`super::attention`].
pub(crate) fn attention(kv: &KvPool, shape: &AttentionShape, qs: &Queries<'_>, out: &mut [f32]) {
    let width = shape.heads * shape.head_dim;
    for span in qs.spans {
        for row in span.rows.clone() {
            for head in 0..shape.heads {
                let at = row * width + head * shape.head_dim;
                let query = &qs.q[at..at + shape.head_dim];
                let kv_head = head / (shape.heads / shape.kv_heads);
                let seen = seen(kv, shape, (qs, span.runs, qs.positions[row]), (query, kv_head));
                let max = seen.iter().fold(f64::NEG_INFINITY, |m, (score, _)| m.max(*score));
                let sum: f64 = seen.iter().map(|(score, _)| (score - max).exp()).sum();
                for d in 0..shape.head_dim {
                    let o: f64 = seen.iter().map(|(score, v)| (score - max).exp() * v[d]).sum();
                    out[at + d] = if seen.is_empty() { 0.0 } else { (o / sum) as f32 };
                }
            }
        }
    }
}

/// Score and V of every row that one query sees.
fn seen(
    kv: &KvPool,
    shape: &AttentionShape,
    (qs, runs, position): (&Queries<'_>, &[Run<'_>], u32),
    (query, kv_head): (&[f32], usize),
) -> Vec<(f64, Vec<f64>)> {
    let mut seen = Vec::new();
    for run in runs {
        let mut q = query.to_vec();
        qs.rope.rotate(i64::from(position) - i64::from(run.shift), &mut q);
        if kv.layout().dtype == KvDtype::Int8 {
            spread(&mut q);
        }
        for r in 0..run.rows {
            let key = run.start + r;
            if key > position || shape.window.is_some_and(|w| position - key >= w) {
                continue;
            }
            let (k, v) = row(kv, run, r as usize, (qs.layer, kv_head));
            let dot: f64 = q.iter().zip(&k).map(|(&q, k)| f64::from(q) * k).sum();
            let score = dot * f64::from(shape.scale);
            let capped =
                shape.softcap.map_or(score, |c| f64::from(c) * (score / f64::from(c)).tanh());
            seen.push((capped, v));
        }
    }
    seen
}

/// K and V of row `r` of a run.
fn row(
    kv: &KvPool,
    run: &Run<'_>,
    r: usize,
    (layer, head): (usize, usize),
) -> (Vec<f64>, Vec<f64>) {
    let rows = kv.layout().page_rows;
    let at = RowOfHead { page: run.pages[r / rows], layer, head, row: r % rows };
    let [k, v] = kv.row(at).map(|row| row.into_iter().map(f64::from).collect());
    (k, v)
}

//! Attention as its formula says, in f64.

use super::{AttentionShape, Queries};
use crate::kv::{RowOfHead, spread};
use crate::{KvDtype, KvPool, Run, Span, Tempered};

/// See [`super::attention`].
pub(crate) fn attention(kv: &KvPool, shape: &AttentionShape, qs: &Queries<'_>, out: &mut [f32]) {
    let width = shape.heads * shape.head_dim;
    for span in qs.looks.spans {
        for row in span.rows.clone() {
            for head in 0..shape.heads {
                let at = row * width + head * shape.head_dim;
                let query = &qs.q[at..at + shape.head_dim];
                let kv_head = head / (shape.heads / shape.kv_heads);
                let seen = tempered(span, seen(kv, shape, (qs, span, row), (query, kv_head)));
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

/// Fills `mass` with the attention that each row of the runs gets, see [`super::attention_mass`].
pub(crate) fn mass(kv: &KvPool, shape: &AttentionShape, qs: &Queries<'_>, mass: &mut [f64]) {
    let width = shape.heads * shape.head_dim;
    let span = &qs.looks.spans[0];
    for row in span.rows.clone() {
        for head in 0..shape.heads {
            let at = row * width + head * shape.head_dim;
            let query = &qs.q[at..at + shape.head_dim];
            let kv_head = head / (shape.heads / shape.kv_heads);
            let seen = seen(kv, shape, (qs, span, row), (query, kv_head));
            let max = seen.iter().fold(f64::NEG_INFINITY, |m, one| m.max(one.score));
            let sum: f64 = seen.iter().map(|one| (one.score - max).exp()).sum();
            for one in &seen {
                mass[one.index] += (one.score - max).exp() / sum;
            }
        }
    }
}

/// A row that a query sees.
struct Seen {
    score: f64,
    v: Vec<f64>,
    /// Of its run.
    run: usize,
    /// Among the rows of all runs.
    index: usize,
}

/// Scores and V, with those of tempered runs moved from their log-sum-exp `l` to `S T l`.
fn tempered(span: &Span<'_>, seen: Vec<Seen>) -> Vec<(f64, Vec<f64>)> {
    let Some(Tempered { runs, temperature, scale }) = span.tempered else {
        return seen.into_iter().map(|one| (one.score, one.v)).collect();
    };
    let (t, s) = (f64::from(temperature), f64::from(scale));
    let own = || seen.iter().filter(|one| one.run < runs).map(|one| one.score / t);
    let max = own().fold(f64::NEG_INFINITY, f64::max);
    let lse = max + own().map(|score| (score - max).exp()).sum::<f64>().ln();
    let moved = |one: &Seen| one.score / t - lse + s * t * lse;
    let score = |one: &Seen| if one.run < runs { moved(one) } else { one.score };
    seen.iter().map(|one| (score(one), one.v.clone())).collect()
}

/// Every row that one query sees.
fn seen(
    kv: &KvPool,
    shape: &AttentionShape,
    (qs, span, batch_row): (&Queries<'_>, &Span<'_>, usize),
    (query, kv_head): (&[f32], usize),
) -> Vec<Seen> {
    let position = qs.looks.positions[batch_row];
    let (mut seen, mut before) = (Vec::new(), 0);
    for (number, run) in span.runs.iter().enumerate() {
        let mut q = query.to_vec();
        qs.rope.rotate(i64::from(position) - i64::from(run.shift), &mut q);
        if kv.layout().dtype == KvDtype::Int8 {
            spread(&mut q);
        }
        for r in 0..run.rows {
            let key = run.position(r);
            let is_far = shape.window.is_some_and(|w| key <= position && position - key >= w);
            if key > position || is_far || run.hides(r) {
                continue;
            }
            let (k, v) = row(kv, run, r as usize, (qs.layer, kv_head));
            let dot: f64 = q.iter().zip(&k).map(|(&q, k)| f64::from(q) * k).sum();
            let score = dot * f64::from(shape.scale);
            let capped =
                shape.softcap.map_or(score, |c| f64::from(c) * (score / f64::from(c)).tanh());
            seen.push(Seen { score: capped, v, run: number, index: before + r as usize });
        }
        before += run.rows as usize;
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

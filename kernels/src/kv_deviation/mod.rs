//! How far values are from those that pages hold: for each row, over all heads and dims, the sum of
//! `(v - V)^2`. What CacheBlend ranks rows by (Yao et al. 2025, arXiv:2405.16444).

pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use crate::kv::RowOfHead;
use crate::{Cpu, KvPool, RowAddr};

/// Fills `out` (`[rows]`) with the deviation of `v` (`[rows, kv_heads * head_dim]`) from the V
/// that `rows` of `layer` hold.
///
/// # Panics
/// When lengths disagree or an address is outside the pool.
pub fn kv_deviation(
    cpu: &Cpu,
    kv: &KvPool,
    (layer, rows): (usize, &[RowAddr]),
    v: &[f32],
    out: &mut [f64],
) {
    let (heads, dims) = (kv.layout().kv_heads, kv.layout().head_dim);
    assert_eq!((v.len(), out.len()), (rows.len() * heads * dims, rows.len()), "V of every row");
    cpu.split_rows(out, 1, GRAIN, |first, out| {
        for (i, to) in out.iter_mut().enumerate() {
            let RowAddr { page, row } = rows[first + i];
            let fresh = v[(first + i) * heads * dims..][..heads * dims].chunks_exact(dims);
            let squares = fresh.enumerate().map(|(head, fresh)| {
                let [_, held] = kv.row(RowOfHead { page, layer, head, row: row as usize });
                let square = |(a, b): (&f32, f32)| f64::from(a - b).powi(2);
                fresh.iter().zip(held).map(square).sum::<f64>()
            });
            *to = squares.sum();
        }
    });
}

/// Rows a thread takes at least: fewer are not worth waking it.
const GRAIN: usize = 16;

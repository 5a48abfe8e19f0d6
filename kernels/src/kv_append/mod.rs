//! Writes the K and V of batch rows into pages: `K <- R(position) k`, `V <- v`, both rounded to
//! the pool's format (saturating).

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use crate::kv::{Element, RowOfHead};
use crate::{Cpu, KvDtype, KvPool, RopeTable, RowAddr};

/// Where the rows of a batch are written in one layer.
#[derive(Clone, Copy, Debug)]
pub struct KvRows<'a> {
    /// The layer.
    pub layer: usize,
    /// Page and row of each batch row.
    pub writes: &'a [RowAddr],
    /// Position each key is rotated at.
    pub positions: &'a [u32],
    /// The layer's angles.
    pub rope: &'a RopeTable,
}

/// Writes `k` and `v` (`[rows, kv_heads * head_dim]`, `k` not rotated) to `at`.
///
/// # Panics
/// When lengths disagree or an address is outside the pool.
pub fn kv_append(_cpu: &Cpu, kv: &mut KvPool, at: &KvRows<'_>, k: &[f32], v: &[f32]) {
    let width = kv.layout().kv_heads * kv.layout().head_dim;
    let rows = at.writes.len();
    assert_eq!(at.positions.len(), rows, "one position a row");
    assert_eq!((k.len(), v.len()), (rows * width, rows * width), "K and V of every row");
    assert_eq!(at.rope.dims(), kv.layout().head_dim, "angles for these heads");
    // On the caller's thread: it is memory-bound, and one product's worth is thousands of times
    // more work than its rows.
    match kv.layout().dtype {
        KvDtype::F32 => append::<f32>(kv, at, k, v),
        KvDtype::F16 => append::<half::f16>(kv, at, k, v),
        KvDtype::Bf16 => append::<half::bf16>(kv, at, k, v),
    }
}

fn append<E: Element>(kv: &mut KvPool, at: &KvRows<'_>, k: &[f32], v: &[f32]) {
    let dims = kv.layout().head_dim;
    let heads = kv.layout().kv_heads;
    let mut rotated = [0.0; crate::HEAD_DIM_MAX];
    let rotated = &mut rotated[..dims];
    for (r, (&RowAddr { page, row }, &position)) in at.writes.iter().zip(at.positions).enumerate() {
        let angles = at.rope.angles(i64::from(position));
        for head in 0..heads {
            let start = (r * heads + head) * dims;
            rotated.copy_from_slice(&k[start..start + dims]);
            at.rope.turn(&angles, rotated);
            let place = RowOfHead { page, layer: at.layer, head, row: row as usize };
            kv.write::<E>(place, rotated, &v[start..start + dims]);
        }
    }
}

//! Writes the K and V of batch rows into pages: `K <- R(position) k`, `V <- v`, both rounded to
//! the pool's format (saturating). Where that is codes, K is spread over its dims first.

pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use crate::kv::{Element, RowOfHead, Writer, spread};
use crate::{Cpu, KvDtype, KvLayout, KvPool, RopeTable, RowAddr};

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
pub fn kv_append(cpu: &Cpu, kv: &mut KvPool, at: &KvRows<'_>, k: &[f32], v: &[f32]) {
    let width = kv.layout().kv_heads * kv.layout().head_dim;
    let rows = at.writes.len();
    assert_eq!(at.positions.len(), rows, "one position a row");
    assert_eq!((k.len(), v.len()), (rows * width, rows * width), "K and V of every row");
    assert_eq!(at.rope.dims(), kv.layout().head_dim, "angles for these heads");
    let threads = cpu.threads().min(rows * width / GRAIN).max(1);
    let KvLayout { kv_heads, head_dim, dtype, .. } = *kv.layout();
    let writer = kv.writer();
    cpu.for_each(threads, |thread| {
        let share = Share { at, k, v, heads: kv_heads, dims: head_dim, thread, threads };
        match dtype {
            KvDtype::F32 => share.append::<f32>(&writer),
            KvDtype::F16 => share.append::<half::f16>(&writer),
            KvDtype::Bf16 => share.append::<half::bf16>(&writer),
            KvDtype::Int8 => share.append::<i8>(&writer),
        }
    });
}

/// Elements a thread takes at least: fewer are not worth waking it.
const GRAIN: usize = 1 << 12;

/// The rows of the pages that are one thread's: pages are dealt out by their number, so that no
/// two threads have a page in common whatever the addresses.
struct Share<'a> {
    at: &'a KvRows<'a>,
    k: &'a [f32],
    v: &'a [f32],
    heads: usize,
    dims: usize,
    thread: usize,
    threads: usize,
}

impl Share<'_> {
    fn append<E: Element>(&self, writer: &Writer<'_>) {
        let Self { at, k, v, heads, dims, thread, threads } = *self;
        let mut rotated = [0.0; crate::HEAD_DIM_MAX];
        let rotated = &mut rotated[..dims];
        let rows = at.writes.iter().zip(at.positions).enumerate();
        let own = rows.filter(|(_, (address, _))| address.page.0 as usize % threads == thread);
        for (r, (&RowAddr { page, row }, &position)) in own {
            let angles = at.rope.angles(i64::from(position));
            for head in 0..heads {
                let start = (r * heads + head) * dims;
                rotated.copy_from_slice(&k[start..start + dims]);
                at.rope.turn(&angles, rotated);
                if E::SCALED {
                    spread(rotated);
                }
                let place = RowOfHead { page, layer: at.layer, head, row: row as usize };
                // SAFETY: the page is this thread's.
                unsafe { writer.write::<E>(place, rotated, &v[start..start + dims]) };
            }
        }
    }
}

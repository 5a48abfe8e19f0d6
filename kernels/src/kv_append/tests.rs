//! Rows written are the rotated keys and the values, rounded once; other rows stay.

use super::*;
use crate::{Isa, KvLayout, PageId, RopeStyle};

fn check<E: Element>(style: RopeStyle, page_rows: usize) {
    let (kv_heads, head_dim) = (3, 16);
    let layout = KvLayout { layers: 2, kv_heads, head_dim, page_rows, dtype: E::DTYPE };
    let mut kv = KvPool::new(layout, 7).unwrap();
    let inv_freq: Vec<f32> = (0..8).map(|i| 0.5_f32.powi(i)).collect();
    let rope = RopeTable::new(style, inv_freq.clone(), 64);
    let pages = [4, 1, 5, 0, 2].map(PageId);
    let writes: Vec<_> = (0..5)
        .map(|r| RowAddr { page: pages[r / page_rows], row: (r % page_rows) as u32 })
        .collect();
    let positions = [3, 4, 5, 70, 0];
    let number = |i: usize| (crate::uniform(9, i as u64) as f32 - 0.5) * 300.0;
    let k: Vec<f32> = (0..5 * 48).map(number).collect();
    let v: Vec<f32> = (500..500 + 5 * 48).map(number).collect();
    let at = KvRows { layer: 1, writes: &writes, positions: &positions, rope: &rope };
    kv_append(&Cpu::new(1, Isa::Scalar), &mut kv, &at, &k, &v);
    for (r, write) in writes.iter().enumerate() {
        for head in 0..kv_heads {
            let of = |x: &[f32]| x[(r * kv_heads + head) * head_dim..][..head_dim].to_vec();
            let (mut k, v) = (of(&k), of(&v));
            let exact = reference::key(style, &inv_freq, positions[r], &k);
            rope.rotate(i64::from(positions[r]), &mut k);
            let close = |(k, exact): (&f32, &f64)| (f64::from(*k) - exact).abs() < 1e-4;
            assert!(k.iter().zip(&exact).all(close), "{k:?} {exact:?}");
            let row = write.row as usize;
            for d in 0..head_dim {
                let k_at = kv.k::<E>(write.page, 1, head)[d * page_rows + row].widen();
                let v_at = kv.v::<E>(write.page, 1, head)[row * head_dim + d].widen();
                let mut stored = [E::ZERO; 2];
                E::narrow(&[k[d], v[d]], &mut stored);
                assert_eq!((k_at, v_at), (stored[0].widen(), stored[1].widen()));
            }
        }
    }
    for head in 0..kv_heads {
        assert!(kv.k::<E>(PageId(3), 1, head).iter().all(|x| x.widen() == 0.0));
        assert!(kv.k::<E>(PageId(4), 0, head).iter().all(|x| x.widen() == 0.0));
    }
}

#[test]
fn rows_hold_rotated_keys_and_values() {
    for style in [RopeStyle::Interleaved, RopeStyle::HalfSplit] {
        for page_rows in [1, 2, 3, 4, 32] {
            check::<f32>(style, page_rows);
            check::<half::f16>(style, page_rows);
            check::<half::bf16>(style, page_rows);
        }
    }
}

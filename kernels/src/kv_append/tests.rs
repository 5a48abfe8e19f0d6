//! Rows written are the rotated keys and the values, rounded once; other rows stay.

use super::*;
use crate::kv::GROUP_DIMS;
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
            if E::SCALED {
                spread(&mut k);
            }
            let stored = kv.row(RowOfHead { page: write.page, layer: 1, head, row });
            assert_eq!(stored, [k, v].map(|numbers| narrowed::<E>(&numbers)));
        }
    }
    for head in 0..kv_heads {
        for row in 0..page_rows {
            for (page, layer) in [(PageId(3), 1), (PageId(4), 0)] {
                let stored = kv.row(RowOfHead { page, layer, head, row });
                assert!(stored.iter().flatten().all(|&x| x == 0.0));
            }
        }
    }
}

/// Numbers as they are stored.
fn narrowed<E: Element>(numbers: &[f32]) -> Vec<f32> {
    let mut stored = vec![E::ZERO; numbers.len()];
    let mut scales = vec![half::bf16::ZERO; numbers.len().div_ceil(GROUP_DIMS)];
    E::narrow(numbers, &mut stored, &mut scales);
    stored.iter().enumerate().map(|(d, x)| x.widen(scales[d / GROUP_DIMS])).collect()
}

#[test]
fn rows_hold_rotated_keys_and_values() {
    for style in [RopeStyle::Interleaved, RopeStyle::HalfSplit] {
        for page_rows in [1, 2, 3, 4, 32] {
            check::<f32>(style, page_rows);
            check::<half::f16>(style, page_rows);
            check::<half::bf16>(style, page_rows);
            check::<i8>(style, page_rows);
        }
    }
}

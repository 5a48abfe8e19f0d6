//! Layout arithmetic, rows written and read back, copies, and digests.

use super::*;
use crate::{Cpu, Isa, KvRows, RopeStyle, RopeTable, RowAddr, kv_append};

fn layout(page_rows: usize, dtype: KvDtype) -> KvLayout {
    KvLayout { layers: 2, kv_heads: 3, head_dim: 4, page_rows, dtype }
}

/// Writes `rows` rows, row `r` holding numbers made of `seed` and `r`, into `pages`.
fn fill(kv: &mut KvPool, pages: &[PageId], rows: std::ops::Range<usize>, seed: f32) {
    let rope = RopeTable::new(RopeStyle::HalfSplit, vec![0.0; 2], 1);
    let page_rows = kv.layout().page_rows;
    for layer in 0..2 {
        for r in rows.clone() {
            let number = |i: usize| seed + (r * 100 + layer * 50 + i) as f32 / 8.0;
            let k: Vec<f32> = (0..12).map(number).collect();
            let v: Vec<f32> = (12..24).map(number).collect();
            let write = RowAddr { page: pages[r / page_rows], row: (r % page_rows) as u32 };
            let at = KvRows { layer, writes: &[write], positions: &[0], rope: &rope };
            kv_append(&Cpu::new(1, Isa::Scalar), kv, &at, &k, &v);
        }
    }
}

fn bytes(kv: &KvPool, pages: &[PageId], rows: usize) -> Vec<u8> {
    let mut all = Vec::new();
    kv.visit_rows(pages, rows, |bytes| all.extend_from_slice(bytes));
    all
}

#[test]
fn rows_are_where_the_layout_draws_them() {
    let mut kv = KvPool::new(layout(3, KvDtype::F32), 2).unwrap();
    fill(&mut kv, &[PageId(1)], 0..3, 0.0);
    for (layer, head, row, dim) in [(0, 0, 0, 0), (1, 2, 2, 3), (0, 1, 2, 1), (1, 0, 1, 2)] {
        let number =
            |side: usize| (row * 100 + layer * 50 + side * 12 + head * 4 + dim) as f32 / 8.0;
        let [k, v] = [Side::K, Side::V].map(|s| kv.panel::<f32>(PageId(1), layer, s, head).numbers);
        assert_eq!((k[dim * 3 + row], v[row * 4 + dim]), (number(0), number(1)));
        let [k, v] = kv.row(RowOfHead { page: PageId(1), layer, head, row });
        assert_eq!((k[dim], v[dim]), (number(0), number(1)));
    }
    let untouched = kv.panel::<f32>(PageId(0), 1, Side::K, 2);
    assert!(untouched.numbers.iter().all(|&x| x == 0.0), "untouched memory is zero");
}

#[test]
fn the_bytes_of_rows_do_not_depend_on_what_lies_behind_or_where_pages_are() {
    for dtype in KvDtype::ALL {
        for page_rows in 1..=4 {
            for rows in 0..=8_usize {
                let (a, b) = ([2, 0, 3, 1, 5, 4, 7, 6], [0, 1, 2, 3, 4, 5, 6, 7]);
                let (a, b) = (a.map(PageId), b.map(PageId));
                let pages = rows.div_ceil(page_rows);
                let mut one = KvPool::new(layout(page_rows, dtype), 8).unwrap();
                fill(&mut one, &a[..pages], 0..rows, 0.5);
                let mut other = KvPool::new(layout(page_rows, dtype), 8).unwrap();
                fill(&mut other, &b, 0..8, 0.5);
                let all = bytes(&one, &a[..pages], rows);
                assert_eq!(all, bytes(&other, &b, rows));
                assert_eq!(all.len(), rows * layout(1, dtype).page_bytes());
                assert_eq!(all.len(), layout(page_rows, dtype).bytes_of(rows));
                let mut filled = KvPool::new(layout(page_rows, dtype), 8).unwrap();
                fill(&mut filled, &b, 0..8, 3.0);
                filled.fill_rows(&b[..pages], rows, &all);
                assert_eq!(all, bytes(&filled, &b, rows), "what was read is filled in again");
                fill(&mut filled, &b, 0..rows, 3.0);
                let mut before = KvPool::new(layout(page_rows, dtype), 8).unwrap();
                fill(&mut before, &b, 0..8, 3.0);
                assert_eq!(bytes(&filled, &b, 8), bytes(&before, &b, 8), "and nothing else");
                if rows > 0 {
                    fill(&mut other, &b, rows - 1..rows, 0.625);
                    assert_ne!(all, bytes(&other, &b, rows), "{page_rows} {rows} {dtype:?}");
                }
            }
        }
    }
}

#[test]
fn a_copy_is_the_rows_and_nothing_else() {
    for dtype in KvDtype::ALL {
        for page_rows in 1..=4 {
            for rows in 0..=page_rows {
                for (from, to) in [(PageId(0), PageId(2)), (PageId(2), PageId(1))] {
                    let mut kv = KvPool::new(layout(page_rows, dtype), 3).unwrap();
                    fill(&mut kv, &[from], 0..page_rows, 0.0);
                    fill(&mut kv, &[to], 0..page_rows, 3.0);
                    let mut want = KvPool::new(layout(page_rows, dtype), 3).unwrap();
                    fill(&mut want, &[to], 0..page_rows, 3.0);
                    fill(&mut want, &[to], 0..rows, 0.0);
                    kv.copy_rows(from, to, rows);
                    assert_eq!(bytes(&kv, &[to], page_rows), bytes(&want, &[to], page_rows));
                    kv.copy_rows(to, to, rows);
                    assert_eq!(bytes(&kv, &[to], page_rows), bytes(&want, &[to], page_rows));
                }
            }
        }
    }
}

#[test]
fn wild_sizes_are_errors_and_memory_is_not_touched() {
    let shape =
        KvLayout { layers: 30, kv_heads: 3, head_dim: 64, page_rows: 32, dtype: KvDtype::F16 };
    for bad in [
        KvLayout { layers: 0, ..shape },
        KvLayout { page_rows: 0, ..shape },
        KvLayout { head_dim: HEAD_DIM_MAX + 1, ..shape },
    ] {
        assert_eq!(KvPool::new(bad, 1).unwrap_err(), PoolError::Shape(bad));
    }
    let wide = KvLayout { layers: usize::MAX / 4, ..shape };
    assert_eq!(KvPool::new(wide, 1).unwrap_err(), PoolError::TooLarge);
    assert_eq!(KvPool::new(shape, usize::MAX / 4).unwrap_err(), PoolError::TooLarge);
    assert!(KvPool::new(shape, 0).is_ok());
    let large = KvPool::new(shape, 4096).unwrap(); // 3 GB, of which only what is read exists
    let k = |page, layer, head| large.panel::<half::f16>(page, layer, Side::K, head).numbers;
    assert!(k(PageId(4095), 29, 2).iter().all(|x| x.to_bits() == 0));
    assert!(k(PageId(1), 0, 0).as_ptr().addr().is_multiple_of(64));
}

#[test]
fn numbers_saturate_and_round_to_even() {
    use half::{bf16, f16};
    let from = [1e6, -f32::INFINITY, 65519.0, 2049.0, 2051.0, f32::NAN, 6e-8, -0.0];
    let mut to = [f16::ZERO; 8];
    f16::narrow(&from, &mut to, &mut []);
    let want = [65504.0, -65504.0, 65504.0, 2048.0, 2052.0, f32::NAN, 5.960_464_5e-8, -0.0];
    let bits = |x: &[f16]| x.iter().map(|x| (x.to_f32().to_bits(), x.is_nan())).collect::<Vec<_>>();
    let (got, want) = (bits(&to), bits(&want.map(f16::from_f32)));
    assert!(got.iter().zip(&want).all(|(g, w)| g == w || (g.1 && w.1)), "{to:?}");
    let mut to = [bf16::ZERO; 3];
    bf16::narrow(&[f32::INFINITY, -f32::MAX, f32::NAN], &mut to, &mut []);
    assert!(to[0] == bf16::MAX && to[1] == bf16::MIN && to[2].is_nan(), "{to:?}");
    let long: Vec<f32> = (0..200).map(|i| i as f32 / 7.0).collect();
    let mut to = [f16::ZERO; 200];
    f16::narrow(&long, &mut to, &mut []);
    assert!(to.iter().zip(&long).all(|(to, x)| *to == f16::from_f32(*x)));
}

#[test]
fn codes_are_off_by_half_a_step_of_their_group() {
    use half::bf16;
    let narrowed = |from: &[f32]| -> Vec<f32> {
        let mut codes = vec![0; from.len()];
        let mut scales = vec![bf16::ZERO; from.len().div_ceil(GROUP_DIMS)];
        i8::narrow(from, &mut codes, &mut scales);
        codes.iter().enumerate().map(|(i, code)| code.widen(scales[i / GROUP_DIMS])).collect()
    };
    for magnitude in [1e-30, 1e-3, 1.0, 77.7, 6e4] {
        let number = |i| (crate::uniform(3, i) as f32 - 0.5) * 2.0 * magnitude;
        // The last group is a short one.
        let from: Vec<f32> = (0..80).map(number).collect();
        for (from, to) in from.chunks(GROUP_DIMS).zip(narrowed(&from).chunks(GROUP_DIMS)) {
            let largest = from.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
            let off = from.iter().zip(to).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
            assert!(off <= largest / 252.0, "{off} of {largest}");
            assert!(off > 0.0, "codes are not floats");
        }
    }
    let close = |x: f32, y: f32| (x / y - 1.0).abs() < 0.01;
    let wild = narrowed(&[1e6, -f32::INFINITY, 65519.0, 0.0]);
    assert!(close(wild[0], 65504.0) && close(wild[1], -65504.0) && wild[3] == 0.0, "{wild:?}");
    assert!(narrowed(&[0.0; 40]).iter().all(|x| x.to_bits() == 0));
    assert!(narrowed(&[1.0, f32::NAN]).iter().all(|x| x.is_nan()), "one spoils its group");
}

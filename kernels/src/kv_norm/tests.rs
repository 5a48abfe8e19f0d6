//! Norms are those of the rows of runs, in their order, in every format.

use super::kv_norm;
use crate::kv::RowOfHead;
use crate::{
    Cpu, Isa, KvDtype, KvLayout, KvPool, KvRows, PageId, RopeStyle, RopeTable, RowAddr, Run,
    kv_append,
};

#[test]
fn every_row_of_every_run_in_order() {
    for dtype in [KvDtype::F32, KvDtype::F16, KvDtype::Bf16, KvDtype::Int8] {
        let layout = KvLayout { layers: 2, kv_heads: 2, head_dim: 32, page_rows: 3, dtype };
        let mut kv = KvPool::new(layout, 70).unwrap();
        let rope = RopeTable::new(RopeStyle::HalfSplit, vec![1.0; 16], 256);
        let rows: Vec<_> =
            (0..200).map(|r| RowAddr { page: PageId(69 - r / 3), row: r % 3 }).collect();
        let positions: Vec<u32> = (0..200).collect();
        let v: Vec<f32> = (0..200 * 64).map(|i| ((i % 37) as f32 - 18.0) / 10.0).collect();
        let at = KvRows { layer: 1, writes: &rows, positions: &positions, rope: &rope };
        kv_append(&Cpu::new(1, Isa::Scalar), &mut kv, &at, &v, &v);
        let pages: Vec<PageId> = (0..67).map(|page| PageId(69 - page)).collect();
        let runs = [Run::new(&pages[2..], 130, 0, 0), Run::new(&pages, 5, 130, 0)];
        let expected: Vec<f64> = (6..136).chain(0..5).map(|row| naive(&kv, &pages, row)).collect();
        assert!(expected.iter().all(|&norm| norm > 1.0), "rows have values");
        for threads in [1, 3] {
            let mut norms = vec![f64::NAN; 135];
            kv_norm(&Cpu::new(threads, Isa::best()), &kv, 1, &runs, &mut norms);
            for (norm, expected) in norms.iter().zip(&expected) {
                assert!((norm - expected).abs() < 1e-5 * expected, "{dtype:?}: {norm} {expected}");
            }
        }
    }
}

fn naive(kv: &KvPool, pages: &[PageId], row: usize) -> f64 {
    let of_head = |head| {
        let [_, v] = kv.row(RowOfHead { page: pages[row / 3], layer: 1, head, row: row % 3 });
        v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>()
    };
    (0..2).map(of_head).sum()
}

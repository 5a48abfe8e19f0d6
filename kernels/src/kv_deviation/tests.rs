//! Deviations are those of the rows named, whatever stands beside them.

use super::kv_deviation;
use crate::{
    Cpu, Isa, KvDtype, KvLayout, KvPool, KvRows, PageId, RopeStyle, RopeTable, RowAddr, kv_append,
};

#[test]
fn only_what_differs_counts() {
    let layout =
        KvLayout { layers: 2, kv_heads: 2, head_dim: 16, page_rows: 3, dtype: KvDtype::F32 };
    let mut kv = KvPool::new(layout, 20).unwrap();
    let rope = RopeTable::new(RopeStyle::HalfSplit, vec![1.0; 8], 64);
    let rows: Vec<_> = (0..40).map(|r| RowAddr { page: PageId(19 - r / 3), row: r % 3 }).collect();
    let positions: Vec<u32> = (0..40).collect();
    let v: Vec<f32> = (0..40 * 32).map(|i| i as f32 / 100.0).collect();
    for (layer, by) in [(0, 9.0), (1, 1.0)] {
        let scaled: Vec<f32> = v.iter().map(|x| x * by).collect();
        let at = KvRows { layer, writes: &rows, positions: &positions, rope: &rope };
        kv_append(&Cpu::new(1, Isa::Scalar), &mut kv, &at, &v, &scaled);
    }
    // Row r is off by r in as many of its dims.
    let mut off = v.clone();
    for (r, row) in off.chunks_exact_mut(32).enumerate() {
        row.iter_mut().take(r).for_each(|x| *x += r as f32);
    }
    for threads in [1, 3] {
        let mut deviations = vec![f64::NAN; 40];
        let cpu = Cpu::new(threads, Isa::best());
        kv_deviation(&cpu, &kv, (1, &rows), &off, &mut deviations);
        for (r, deviation) in deviations.into_iter().enumerate() {
            let exact = (r.min(32) * r * r) as f64;
            assert!((deviation - exact).abs() <= exact * 1e-5, "row {r}: {deviation}");
        }
    }
}

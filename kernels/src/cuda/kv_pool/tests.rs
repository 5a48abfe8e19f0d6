//! Pages on a device hold what pages on the host do, and go there and back unchanged. What needs a
//! device is done on an imagined one where there is none, and compares nothing then.

use super::*;
use crate::case::{Rng, gpu};
use crate::cuda::{GpuKvRows, GpuRopeTable, HeadRows, kv_append, kv_deviation, kv_norm};
use crate::kv::RowOfHead;
use crate::{Cpu, Isa, KvLayout, KvRows, RopeStyle, RopeTable, RowAddr, Run};

/// A batch of rows that fill pages 4, 1 and a part of 5.
struct Batch {
    sizes: KvLayout,
    writes: Vec<RowAddr>,
    positions: Vec<u32>,
    k: Vec<f32>,
    v: Vec<f32>,
    rope: RopeTable,
}

const PAGES: [PageId; 3] = [PageId(4), PageId(1), PageId(5)];

impl Batch {
    fn new(dtype: KvDtype, head_dim: usize, page_rows: usize, style: RopeStyle) -> Self {
        let sizes = KvLayout { layers: 2, kv_heads: 3, head_dim, page_rows, dtype };
        let rows = 2 * page_rows + page_rows.div_ceil(2);
        let mut rng = Rng::new(11);
        let place = |r| RowAddr { page: PAGES[r / page_rows], row: (r % page_rows) as u32 };
        let inv_freq = (0..head_dim / 2).map(|i| 0.7_f32.powi(i as i32)).collect();
        Self {
            sizes,
            writes: (0..rows).map(place).collect(),
            positions: (0..rows as u32).map(|r| 3 * r + 1).collect(),
            k: rng.activations(rows * 3 * head_dim),
            v: rng.activations(rows * 3 * head_dim),
            rope: RopeTable::new(style, inv_freq, 512),
        }
    }

    fn rows(&self) -> usize {
        self.writes.len()
    }

    fn on_host(&self) -> KvPool {
        let mut kv = KvPool::new(self.sizes, 7).expect("a small pool");
        let Self { writes, positions, rope, .. } = self;
        let at = KvRows { layer: 1, writes, positions, rope };
        crate::kv_append(&Cpu::new(1, Isa::Scalar), &mut kv, &at, &self.k, &self.v);
        kv
    }

    fn addresses(&self, gpu: &Gpu) -> Buffer<[u32; 2]> {
        let pairs: Vec<_> = self.writes.iter().map(|at| [at.page.0, at.row]).collect();
        Buffer::of(gpu, &pairs).expect("a small array")
    }

    fn on_gpu(&self, gpu: &Gpu) -> GpuKvPool {
        let layout = DeviceKvLayout::new(self.sizes).expect("a small layout");
        let mut kv = GpuKvPool::new(gpu, layout, 7).expect("a small pool");
        let stride = 3 * self.sizes.head_dim;
        let arrays = [&self.k, &self.v].map(|x| Buffer::of(gpu, x).expect("a small array"));
        let [k, v] = [&arrays[0], &arrays[1]].map(|numbers| HeadRows { numbers, stride });
        let positions = Buffer::of(gpu, &self.positions).expect("a small array");
        let writes = self.addresses(gpu);
        let rope = GpuRopeTable::new(gpu, &self.rope, 512).expect("a small table");
        let (layer, rows) = (1, self.rows());
        let (positions, writes, rope) = (&positions, &writes, &rope);
        let at = GpuKvRows { layer, rows, k, v, norms: None, positions, writes, rope };
        kv_append(gpu, &mut kv, &at).expect("a launch");
        kv
    }
}

fn bytes_of_rows(kv: &GpuKvPool, rows: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    kv.visit_rows(&PAGES, rows, |part| bytes.extend_from_slice(part)).expect("a copy");
    bytes
}

/// Every format, with rows that loads of 16 bytes fit and rows that they do not.
fn batches() -> impl Iterator<Item = Batch> {
    let shapes = [(64, 32, RopeStyle::HalfSplit), (18, 3, RopeStyle::Interleaved)];
    let of = move |dtype| shapes.map(|(dims, rows, style)| Batch::new(dtype, dims, rows, style));
    KvDtype::ALL.into_iter().flat_map(of)
}

#[test]
fn turned_pages_hold_the_rows_of_the_host() {
    for batch in batches() {
        let (host, layout) =
            (batch.on_host(), DeviceKvLayout::new(batch.sizes).expect("a small layout"));
        let number = |bytes: &[u8], at: usize| match batch.sizes.dtype {
            KvDtype::F32 => f32::from_le_bytes(bytes[at * 4..][..4].try_into().expect("4 bytes")),
            KvDtype::F16 => f16::from_le_bytes([bytes[at * 2], bytes[at * 2 + 1]]).to_f32(),
            KvDtype::Bf16 => bf16::from_le_bytes([bytes[at * 2], bytes[at * 2 + 1]]).to_f32(),
            KvDtype::Int8 => f32::from(bytes[at] as i8),
        };
        for &RowAddr { page, row } in &batch.writes {
            let bytes = match batch.sizes.dtype {
                KvDtype::F32 => turned::<f32>(&host, &layout, page),
                KvDtype::F16 => turned::<f16>(&host, &layout, page),
                KvDtype::Bf16 => turned::<bf16>(&host, &layout, page),
                KvDtype::Int8 => turned::<i8>(&host, &layout, page),
            };
            let (row, dims, groups) = (row as usize, batch.sizes.head_dim, batch.sizes.groups());
            for head in 0..batch.sizes.kv_heads {
                let sides = host.row(RowOfHead { page, layer: 1, head, row });
                for (side, expected) in sides.into_iter().enumerate() {
                    let panel = &bytes[layout.panel_start(1, side, head)..][..layout.panel_bytes()];
                    let scales = &panel[layout.scales_start()..];
                    let scale = |d: usize| {
                        let at = (row * groups + d / 32) * 2;
                        let bits = scales.get(at..at + 2).filter(|_| groups > 0);
                        bits.map_or(1.0, |bits| bf16::from_le_bytes([bits[0], bits[1]]).to_f32())
                    };
                    let got: Vec<f32> =
                        (0..dims).map(|d| number(panel, row * dims + d) * scale(d)).collect();
                    assert_eq!(got, expected, "{:?} of {page:?}, row {row}", batch.sizes);
                }
            }
        }
    }
}

#[test]
fn rows_appended_on_a_device_are_those_of_the_host() {
    let gpu = gpu();
    for batch in batches() {
        let kv = batch.on_gpu(&gpu);
        let host = GpuKvPool::of_host(&gpu, &batch.on_host()).expect("a small pool");
        let (ours, theirs) = (bytes_of_rows(&kv, batch.rows()), bytes_of_rows(&host, batch.rows()));
        assert_eq!(ours.len(), kv.layout().bytes_of(batch.rows()));
        assert!(ours == theirs, "{:?}", batch.sizes);
    }
}

#[test]
fn rows_go_to_the_host_and_back() {
    let gpu = gpu();
    for batch in batches() {
        let (kv, rows) = (batch.on_gpu(&gpu), batch.rows());
        let mut other = GpuKvPool::new(&gpu, *kv.layout(), 7).expect("a small pool");
        let bytes = bytes_of_rows(&kv, rows);
        other.fill_rows(&PAGES, rows, &bytes).expect("a copy");
        assert!(bytes_of_rows(&other, rows) == bytes, "{:?}", batch.sizes);
        // One by one as in one launch, and what lies behind the rows stays.
        let some = batch.sizes.page_rows.div_ceil(2);
        other.copy_rows(PageId(4), PageId(0), some).expect("a copy");
        let copies = Buffer::of(&gpu, &[[4, 2, some as u32]]).expect("a small array");
        other.copy_rows_each(&gpu, (&copies, 1)).expect("a launch");
        let page = |page, rows| {
            let mut bytes = Vec::new();
            other
                .visit_rows(&[PageId(page)], rows, |part| bytes.extend_from_slice(part))
                .expect("a copy");
            bytes
        };
        let whole = batch.sizes.page_rows;
        assert!(page(0, some) == page(4, some) && page(0, whole) == page(2, whole));
    }
}

#[test]
fn lengths_and_deviations_of_values_are_those_of_the_host() {
    let (gpu, cpu) = (gpu(), Cpu::new(1, Isa::Scalar));
    for batch in batches() {
        let (kv, host, rows) = (batch.on_gpu(&gpu), batch.on_host(), batch.rows());
        let at = batch.addresses(&gpu);
        let mut out = Buffer::zeroed(&gpu, rows).expect("a small array");
        kv_norm(&gpu, &kv, 1, (&at, rows), &mut out).expect("a launch");
        let norms = out.to_vec().expect("a copy");
        let fresh: Vec<f32> = batch.v.iter().map(|v| v * 1.25).collect();
        let numbers = Buffer::of(&gpu, &fresh).expect("a small array");
        let v = HeadRows { numbers: &numbers, stride: 3 * batch.sizes.head_dim };
        kv_deviation(&gpu, &kv, 1, (&at, rows, v), &mut out).expect("a launch");
        let deviations = out.to_vec().expect("a copy");
        if gpu.is_imagined() {
            continue;
        }
        let mut expected = [vec![0.0; rows], vec![0.0; rows]];
        let runs = [Run::new(&PAGES, rows as u32, 0, 0)];
        crate::kv_norm(&cpu, &host, 1, &runs, &mut expected[0]);
        crate::kv_deviation(&cpu, &host, (1, &batch.writes), &fresh, &mut expected[1]);
        for (got, expected) in [norms, deviations].iter().zip(&expected) {
            // Sums of the same squares in another order.
            let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-12 * b.abs();
            assert!(got.iter().zip(expected).all(close), "{got:?} {expected:?}");
        }
    }
}

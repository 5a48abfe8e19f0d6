//! Keys and values into the pages of a device, and the norms of heads that some models have.

use crate::KvDtype;
use crate::cuda::{Argument, Buffer, Gpu, GpuError, GpuKvPool, GpuRopeTable, Kernel, Shape};

/// Heads of a batch's rows: row `t` from `t · stride` on, head after head.
#[derive(Clone, Copy, Debug)]
pub struct HeadRows<'a> {
    /// The numbers.
    pub numbers: &'a Buffer<f32>,
    /// From the beginning of one row to that of the next.
    pub stride: usize,
}

impl HeadRows<'_> {
    /// There are `rows` rows of `width` numbers.
    pub(crate) fn hold(&self, rows: usize, width: usize) -> bool {
        let extent = if rows == 0 { 0 } else { (rows - 1) * self.stride + width };
        width <= self.stride && self.numbers.len() >= extent
    }
}

/// The norms of heads that a model has: of queries, in place, and of keys, on their way.
#[derive(Clone, Copy, Debug)]
pub struct HeadNorms<'a> {
    /// Queries, normed where they are.
    pub q: HeadRows<'a>,
    /// Heads of queries.
    pub heads: usize,
    /// `[head_dim]`: the weight for queries.
    pub q_weight: &'a Buffer<f32>,
    /// `[head_dim]`: the weight for keys.
    pub k_weight: &'a Buffer<f32>,
    /// Added to the mean square.
    pub eps: f32,
}

/// Rows of keys and values, and where they go.
#[derive(Clone, Copy, Debug)]
pub struct GpuKvRows<'a> {
    /// The layer.
    pub layer: usize,
    /// Rows.
    pub rows: usize,
    /// Keys, not rotated.
    pub k: HeadRows<'a>,
    /// Values.
    pub v: HeadRows<'a>,
    /// Norms, if the model has them.
    pub norms: Option<HeadNorms<'a>>,
    /// The positions that keys are rotated at, each in the table.
    pub positions: &'a Buffer<u32>,
    /// Page and row of each.
    pub writes: &'a Buffer<[u32; 2]>,
    /// The layer's angles.
    pub rope: &'a GpuRopeTable,
}

/// Writes rotated keys, and values, into pages; see [`crate::kv_append`]. That positions are in the
/// table of angles and rows in the pool is the caller's to see to.
///
/// # Errors
/// When the device is lost.
///
/// # Panics
/// When an array is too short, or the layer or the heads are not those of the pool.
pub fn kv_append(gpu: &Gpu, kv: &mut GpuKvPool, at: &GpuKvRows<'_>) -> Result<(), GpuError> {
    let GpuKvRows { layer, rows, k, v, norms, positions, writes, rope } = *at;
    let sizes = *kv.layout().sizes();
    let (kv_heads, dims) = (sizes.kv_heads, sizes.head_dim);
    let width = kv_heads * dims;
    assert!(k.hold(rows, width) && v.hold(rows, width), "{rows} rows of {kv_heads} heads");
    assert!(positions.len() >= rows && writes.len() >= rows, "a place for each of {rows} rows");
    assert_eq!(rope.dims(), dims, "angles for these heads");
    assert!(layer < sizes.layers, "layer {layer} of {}", sizes.layers);
    let heads = norms.map_or(0, |norms| norms.heads);
    if let Some(HeadNorms { q, heads, q_weight, k_weight, .. }) = norms {
        assert!(q.hold(rows, heads * dims), "{rows} rows of {heads} heads");
        assert!(q_weight.len() == dims && k_weight.len() == dims, "a weight for each dim");
    }
    let kernel = match sizes.dtype {
        KvDtype::F32 => const { Kernel::named("kv_append_f32") },
        KvDtype::F16 => const { Kernel::named("kv_append_f16") },
        KvDtype::Bf16 => const { Kernel::named("kv_append_bf16") },
        KvDtype::Int8 => const { Kernel::named("kv_append_int8") },
    };
    let q = norms.map(|norms| norms.q.numbers);
    let mut arguments = vec![Argument::optional(q), k.numbers.into(), v.numbers.into()];
    let q_stride = norms.map_or(0, |norms| norms.q.stride);
    arguments.extend([q_stride, k.stride, v.stride].map(Argument::count));
    arguments.extend([
        Argument::optional(norms.map(|norms| norms.q_weight)),
        Argument::optional(norms.map(|norms| norms.k_weight)),
        norms.map_or(0.0, |norms| norms.eps).into(),
        rope.turns().into(),
        rope.style_argument(),
        positions.into(),
        writes.into(),
        Argument::count(rows),
        Argument::count(heads),
    ]);
    arguments.extend(kv.arguments(layer));
    let warps = rows * (heads + 2 * kv_heads);
    // SAFETY: reads and writes rows of arrays that hold them; pages, rows in them and positions are
    // what the caller says.
    unsafe { gpu.launch(kernel, &Shape::of(warps.div_ceil(WARPS), 32 * WARPS), &arguments) }
}

/// Norms heads in place, each by its own mean square.
///
/// # Errors
/// When the device is lost.
///
/// # Panics
/// When the array is too short, or heads are longer than [`crate::HEAD_DIM_MAX`].
pub fn head_norm(
    gpu: &Gpu,
    x: HeadRows<'_>,
    (rows, heads): (usize, usize),
    weight: &Buffer<f32>,
    eps: f32,
) -> Result<(), GpuError> {
    let dims = weight.len();
    assert!(x.hold(rows, heads * dims), "{rows} rows of {heads} heads");
    assert!(dims <= crate::HEAD_DIM_MAX, "heads of {dims}");
    let mut arguments =
        vec![x.numbers.into(), Argument::count(x.stride), weight.into(), eps.into()];
    arguments.extend([rows, heads, dims].map(Argument::count));
    let shape = Shape::of((rows * heads).div_ceil(WARPS), 32 * WARPS);
    // SAFETY: reads and writes heads that the array holds, and the weight.
    unsafe { gpu.launch(const { Kernel::named("head_norm_f32") }, &shape, &arguments) }
}

/// Warps of a block: each takes a head of a row.
const WARPS: usize = 4;

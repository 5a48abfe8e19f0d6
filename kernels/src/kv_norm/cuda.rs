//! How long the values of rows are, on a device.

use crate::KvDtype;
use crate::cuda::{Argument, Buffer, Gpu, GpuError, GpuKvPool, Kernel, Shape};

/// Fills `out` with the squared norm of V in `layer` of the first `count` rows `at` (page and row in
/// it); see [`crate::kv_norm`]. That they are in the pool is the caller's to see to.
///
/// # Errors
/// When the device is lost.
///
/// # Panics
/// When an array is too short, or there is no such layer.
pub fn kv_norm(
    gpu: &Gpu,
    kv: &GpuKvPool,
    layer: usize,
    (at, count): (&Buffer<[u32; 2]>, usize),
    out: &mut Buffer<f64>,
) -> Result<(), GpuError> {
    assert!(at.len() >= count && out.len() >= count, "a place for each of {count} rows");
    let kernel = match kv.layout().sizes().dtype {
        KvDtype::F32 => const { Kernel::named("kv_norm_f32") },
        KvDtype::F16 => const { Kernel::named("kv_norm_f16") },
        KvDtype::Bf16 => const { Kernel::named("kv_norm_bf16") },
        KvDtype::Int8 => const { Kernel::named("kv_norm_int8") },
    };
    let mut arguments = vec![out.into(), at.into(), Argument::count(count)];
    arguments.extend(kv.arguments(layer));
    // SAFETY: writes `count` results, which `out` holds; reads rows that the caller says there are.
    unsafe { gpu.launch(kernel, &Shape::of(count.div_ceil(WARPS), 32 * WARPS), &arguments) }
}

/// Warps of a block: each takes a row.
const WARPS: usize = 4;

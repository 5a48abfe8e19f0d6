//! How far values are from those that pages hold, on a device.

use crate::KvDtype;
use crate::cuda::{Argument, Buffer, Gpu, GpuError, GpuKvPool, HeadRows, Kernel, Shape};

/// Fills `out` with the deviation of `v` from the V that the first `count` rows `at` (page and row
/// in it) of `layer` hold; see [`crate::kv_deviation`]. That they are in the pool is the caller's to
/// see to.
///
/// # Errors
/// When the device is lost.
///
/// # Panics
/// When an array is too short, or there is no such layer.
pub fn kv_deviation(
    gpu: &Gpu,
    kv: &GpuKvPool,
    layer: usize,
    (at, count, v): (&Buffer<[u32; 2]>, usize, HeadRows<'_>),
    out: &mut Buffer<f64>,
) -> Result<(), GpuError> {
    let sizes = kv.layout().sizes();
    assert!(at.len() >= count && out.len() >= count, "a place for each of {count} rows");
    assert!(v.hold(count, sizes.kv_heads * sizes.head_dim), "V of {count} rows");
    let kernel = match sizes.dtype {
        KvDtype::F32 => const { Kernel::named("kv_deviation_f32") },
        KvDtype::F16 => const { Kernel::named("kv_deviation_f16") },
        KvDtype::Bf16 => const { Kernel::named("kv_deviation_bf16") },
        KvDtype::Int8 => const { Kernel::named("kv_deviation_int8") },
    };
    let mut arguments = vec![out.into(), v.numbers.into(), Argument::count(v.stride)];
    arguments.extend([at.into(), Argument::count(count)]);
    arguments.extend(kv.arguments(layer));
    // SAFETY: reads rows of `v` and writes results, of which there are as many; reads rows of pages
    // that the caller says there are.
    unsafe { gpu.launch(kernel, &Shape::of(count.div_ceil(WARPS), 32 * WARPS), &arguments) }
}

/// Warps of a block: each takes a row.
const WARPS: usize = 4;

//! Rows of activations on a device: picked out of a batch, and rounded for products.

use super::{Argument, Buffer, Gpu, GpuError, Kernel, Shape};
use half::bf16;

/// `out[i, c] = x[rows[i], c]` for the first `count` of `rows`; rows of `cols`. `out` is not `x`.
///
/// # Errors
/// When the device is lost.
///
/// # Panics
/// When an array is too short.
pub fn gather_rows(
    gpu: &Gpu,
    x: &Buffer<f32>,
    (rows, count): (&Buffer<u32>, usize),
    cols: usize,
    out: &mut Buffer<f32>,
) -> Result<(), GpuError> {
    assert!(rows.len() >= count && out.len() >= count * cols, "a place for {count} rows of {cols}");
    let arguments = [out.into(), x.into(), rows.into(), Argument::count(cols)];
    // SAFETY: writes `count` rows of `cols`, which `out` holds; that the rows it reads are rows of
    // `x` is the caller's to see to.
    unsafe {
        gpu.launch(const { Kernel::named("gather_rows_f32") }, &Shape::of(count, 256), &arguments)
    }
}

/// `high` becomes the nearest bf16 to `x`, and `low`, if there is one, the nearest to what that
/// left; of the first `count` numbers.
///
/// # Errors
/// When the device is lost.
///
/// # Panics
/// When an array is too short.
pub fn round_bf16(
    gpu: &Gpu,
    x: &Buffer<f32>,
    count: usize,
    high: &mut Buffer<bf16>,
    low: Option<&mut Buffer<bf16>>,
) -> Result<(), GpuError> {
    let low = low.map(|low| &*low);
    let shortest = low.map_or(high.len(), |low| low.len().min(high.len())).min(x.len());
    assert!(shortest >= count, "{shortest} numbers of {count}");
    let arguments = [high.into(), Argument::optional(low), x.into(), Argument::count(count)];
    // SAFETY: reads and writes the first `count` numbers of each array.
    unsafe {
        gpu.launch(
            const { Kernel::named("round_bf16") },
            &Shape::covering(count.div_ceil(8), 256),
            &arguments,
        )
    }
}

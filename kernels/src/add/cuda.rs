//! Sums in place on a device.

use crate::cuda::{Argument, Buffer, Gpu, GpuError, Kernel, Shape};

/// `x += y`, the first `count` elements; see [`crate::add`].
///
/// # Errors
/// When the device is lost.
///
/// # Panics
/// When an array is too short.
pub fn add(gpu: &Gpu, x: &mut Buffer<f32>, y: &Buffer<f32>, count: usize) -> Result<(), GpuError> {
    assert!(x.len() >= count && y.len() >= count, "{count} elements");
    let arguments = [x.into(), y.into(), Argument::count(count)];
    // SAFETY: reads and writes the first `count` elements of each.
    unsafe {
        gpu.launch(
            const { Kernel::named("add_f32") },
            &Shape::covering(count.div_ceil(4), 256),
            &arguments,
        )
    }
}

/// `x[t, c] += bias[c]`, the first `rows` rows of `bias.len()`; see [`crate::add_bias`].
///
/// # Errors
/// When the device is lost.
///
/// # Panics
/// When `x` is too short.
pub fn add_bias(
    gpu: &Gpu,
    x: &mut Buffer<f32>,
    bias: &Buffer<f32>,
    rows: usize,
) -> Result<(), GpuError> {
    let cols = bias.len();
    assert!(x.len() >= rows * cols, "{rows} rows of {cols}");
    let arguments = [x.into(), bias.into(), Argument::count(rows), Argument::count(cols)];
    let shape = Shape::covering(rows * cols.div_ceil(4), 256);
    // SAFETY: reads and writes the first `rows` rows of `x`, and all of `bias`.
    unsafe { gpu.launch(const { Kernel::named("add_bias_f32") }, &shape, &arguments) }
}

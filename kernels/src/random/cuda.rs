//! Random numbers, made on a device.

use super::scale_of;
use crate::cuda::{Argument, Buffer, Gpu, GpuError, Kernel, Shape};
use half::bf16;

/// The numbers of `seed`, of this deviation around zero; see [`crate::random`].
///
/// # Errors
/// When the device is lost.
///
/// # Panics
/// When there are 2^31 or more, or they do not begin at a multiple of 16 bytes.
pub fn random(
    gpu: &Gpu,
    seed: u64,
    deviation: f32,
    out: &mut Buffer<bf16>,
) -> Result<(), GpuError> {
    let count = out.len();
    let (low, high) = (seed as u32, (seed >> 32) as u32);
    let scale = scale_of(deviation);
    let arguments = [out.into(), scale.into(), low.into(), high.into(), Argument::count(count)];
    let shape = Shape::covering(count.div_ceil(8), 256);
    // SAFETY: writes the `count` numbers of the array.
    unsafe { gpu.launch(const { Kernel::named("random_bf16") }, &shape, &arguments) }
}

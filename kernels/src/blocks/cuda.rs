//! Blocks to bf16 weights on a device, and how kernels are named after formats.

use super::BlockFormat;
use crate::cuda::{Argument, Buffer, Gpu, GpuError, Shape};
use half::bf16;

/// The kernel of an op for a format: `$op` and the format's name, as in the table of sources.
macro_rules! per_format {
    ($op:literal, $format:expr) => {{
        use $crate::BlockFormat as Format;
        use $crate::cuda::Kernel;
        match $format {
            Format::F32 => const { Kernel::named(concat!($op, "_f32")) },
            Format::F16 => const { Kernel::named(concat!($op, "_f16")) },
            Format::Bf16 => const { Kernel::named(concat!($op, "_bf16")) },
            Format::Q8_0 => const { Kernel::named(concat!($op, "_q8_0")) },
            Format::Q4_0 => const { Kernel::named(concat!($op, "_q4_0")) },
            Format::Q4_1 => const { Kernel::named(concat!($op, "_q4_1")) },
            Format::Q5_0 => const { Kernel::named(concat!($op, "_q5_0")) },
            Format::Q5_1 => const { Kernel::named(concat!($op, "_q5_1")) },
            Format::Q4K => const { Kernel::named(concat!($op, "_q4_k")) },
            Format::Q5K => const { Kernel::named(concat!($op, "_q5_k")) },
            Format::Q6K => const { Kernel::named(concat!($op, "_q6_k")) },
        }
    }};
}
pub(crate) use per_format;

/// Fills `out` with the bf16 nearest to each of the first `count` numbers of `blocks`; see
/// [`crate::dequantize`]. Floats are read and written by eights, so there arrays are that long.
///
/// # Errors
/// When the device is lost.
///
/// # Panics
/// When an array is too short, or `count` is not whole blocks.
pub fn dequantize(
    gpu: &Gpu,
    format: BlockFormat,
    blocks: &Buffer<u8>,
    count: usize,
    out: &mut Buffer<bf16>,
) -> Result<(), GpuError> {
    assert!(count.is_multiple_of(format.block_len()), "{count} numbers are whole blocks");
    let eighths = count.div_ceil(8);
    let bytes = (8 * eighths).div_ceil(format.block_len()) * format.block_bytes();
    assert!(blocks.len() >= bytes && out.len() >= 8 * eighths, "{count} numbers of {format:?}");
    let kernel = per_format!("dequantize", format);
    let arguments = [out.into(), blocks.into(), Argument::count(eighths)];
    // SAFETY: reads and writes so many times 8 numbers, which both arrays hold.
    unsafe { gpu.launch(kernel, &Shape::covering(eighths, 256), &arguments) }
}

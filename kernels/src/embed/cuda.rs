//! Rows of the embedding table, on a device.

use crate::BlockFormat;
use crate::blocks::cuda::per_format;
use crate::cuda::{Argument, Buffer, Gpu, GpuError, Shape};

/// An embedding table as it lies in a file.
#[derive(Clone, Copy, Debug)]
pub struct EmbedTable<'a> {
    /// How its numbers are stored.
    pub format: BlockFormat,
    /// The numbers.
    pub bytes: &'a Buffer<u8>,
    /// Numbers of a row: whole blocks.
    pub cols: usize,
    /// What they are multiplied by.
    pub scale: f32,
}

/// `out[t, c] = scale · table[tokens[t], c]` for the first `count` tokens; see [`crate::embed`].
/// That each is a row of the table is the caller's to see to.
///
/// # Errors
/// When the device is lost.
///
/// # Panics
/// When an array is too short, or rows are not whole blocks.
pub fn embed(
    gpu: &Gpu,
    table: &EmbedTable<'_>,
    (tokens, count): (&Buffer<u32>, usize),
    out: &mut Buffer<f32>,
) -> Result<(), GpuError> {
    let EmbedTable { format, bytes, cols, scale } = *table;
    assert!(cols.is_multiple_of(format.block_len()), "rows of {cols} are whole blocks");
    assert!(tokens.len() >= count && out.len() >= count * cols, "{count} rows of {cols}");
    let kernel = per_format!("embed", format);
    let arguments = [
        out.into(),
        bytes.into(),
        tokens.into(),
        scale.into(),
        Argument::count(count),
        Argument::count(cols),
    ];
    // SAFETY: writes `count` rows, which `out` holds; reads rows that the caller says there are.
    unsafe { gpu.launch(kernel, &Shape::of(count, 256), &arguments) }
}

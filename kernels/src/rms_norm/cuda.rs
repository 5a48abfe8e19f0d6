//! The norm of rows on a device, with the sum that stands before it and the rounding that follows.

use crate::cuda::{Argument, Buffer, Gpu, GpuError, Kernel, Output, Shape};

/// What is done with rows of the residual stream.
#[derive(Clone, Copy, Debug)]
pub struct RowNorm<'a> {
    /// `[rows, cols]`, added to the stream first.
    pub add: Option<&'a Buffer<f32>>,
    /// `[cols]`: what is added is normed with this weight before.
    pub add_weight: Option<&'a Buffer<f32>>,
    /// `[cols]`: the weight of the norm.
    pub weight: &'a Buffer<f32>,
    /// Added to the mean square.
    pub eps: f32,
    /// Rows.
    pub rows: usize,
}

/// `x += add` (which may be normed first), then
/// `out[t, c] = x[t, c] / sqrt(mean_c(x[t, c]²) + eps) · weight[c]`; see [`crate::rms_norm`].
///
/// # Errors
/// When the device is lost.
///
/// # Panics
/// When an array is too short, or rows are longer than 16,384.
pub fn rms_norm(
    gpu: &Gpu,
    x: &mut Buffer<f32>,
    norm: &RowNorm<'_>,
    out: &Output<'_>,
) -> Result<(), GpuError> {
    let cols = norm.weight.len();
    assert!(out.holds(norm.rows * cols), "a place for {} rows of {cols}", norm.rows);
    let kernel = match out {
        Output::Plain(_) => const { Kernel::named("rms_norm_f32") },
        Output::Rounded(..) => const { Kernel::named("rms_norm_bf16") },
    };
    launch(gpu, kernel, (x, cols), norm, (out.arguments(), norm.weight.into()))
}

/// `x += add`, which is normed first where there is a weight for that: the end of a stack of
/// layers. The norm's own weight says how long rows are, and nothing else.
///
/// # Errors
/// When the device is lost.
///
/// # Panics
/// As [`rms_norm`].
pub fn add_rows(gpu: &Gpu, x: &mut Buffer<f32>, norm: &RowNorm<'_>) -> Result<(), GpuError> {
    let kernel = const { Kernel::named("rms_norm_f32") };
    let cols = norm.weight.len();
    launch(gpu, kernel, (x, cols), norm, (vec![Argument::NOTHING], Argument::NOTHING))
}

fn launch(
    gpu: &Gpu,
    kernel: Kernel,
    (x, cols): (&Buffer<f32>, usize),
    norm: &RowNorm<'_>,
    (mut arguments, weight): (Vec<Argument<'_>>, Argument<'_>),
) -> Result<(), GpuError> {
    let RowNorm { add, add_weight, eps, rows, .. } = *norm;
    assert!(x.len() >= rows * cols, "{} numbers for {rows} rows of {cols}", x.len());
    assert!(add.is_none_or(|add| add.len() >= rows * cols), "as much to add");
    assert!(add_weight.is_none_or(|weight| weight.len() == cols), "a weight for each column");
    assert!(cols <= COLS_MAX, "rows of {cols}; at most {COLS_MAX}");
    let others = [x.into(), Argument::optional(add), Argument::optional(add_weight), weight];
    arguments.extend(others);
    arguments.extend([Argument::count(cols), eps.into()]);
    let shape = Shape::of(rows, threads(rows, cols, gpu.device().multiprocessors));
    // SAFETY: a block reads and writes its row of each array, and the weights; all hold as much.
    unsafe { gpu.launch(kernel, &shape, &arguments) }
}

/// Threads of a row: many where rows are few, to wait for memory less often; a quarter of them
/// where rows keep the device busy. A thread holds up to 16 numbers.
fn threads(rows: usize, cols: usize, multiprocessors: usize) -> usize {
    let each = if rows < 4 * multiprocessors { 4 } else { 16 };
    cols.div_ceil(each).next_multiple_of(32).clamp(32, 1024)
}

/// Longest row: 16 numbers for each of 1024 threads.
const COLS_MAX: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_hold_every_row() {
        for cols in [1, 17, 576, 4096, 16_383, COLS_MAX] {
            for rows in [1, 100_000] {
                let threads = threads(rows, cols, 132);
                assert!(
                    16 * threads >= cols && threads.is_multiple_of(32),
                    "{rows}x{cols}: {threads}"
                );
            }
        }
    }
}

//! What a GPU itself allows, measured in the same run.

use half::bf16;
use kernels::cuda::{Buffer, Gemm, Gpu, GpuError, Moment, gemm};
use serde::Serialize;

/// Upper bounds of a GPU.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Limits {
    /// Bytes read and bytes written by a copy in its memory, 10^9 per second.
    pub(crate) copy_gbs: f64,
    /// Products and sums of bf16 numbers with sums in f32, 10^12 per second.
    pub(crate) bf16_tflops: f64,
}

/// Bytes that are copied: far beyond any cache.
const BYTES: usize = 1 << 30;

/// Rows, inputs and outputs of the product.
const SIDE: usize = 8192;

pub(super) fn measure(gpu: &Gpu) -> Result<Limits, GpuError> {
    let from = Buffer::<u8>::zeroed(gpu, BYTES)?;
    let mut to = Buffer::<u8>::zeroed(gpu, BYTES)?;
    let copy = seconds(gpu, 10, || to.copy_from(&from))?;
    drop((from, to));
    // Zeros would let the device run faster than numbers do.
    let numbers: Vec<bf16> = (0..SIDE * SIDE).map(noise).collect();
    let x = Buffer::of(gpu, &numbers)?;
    let w = Buffer::of(gpu, &numbers)?;
    let mut out = Buffer::<f32>::zeroed(gpu, SIDE * SIDE)?;
    let shape = Gemm { rows: SIDE, inputs: SIDE, outputs: SIDE, adds: false };
    let product = seconds(gpu, 10, || gemm(gpu, shape, &x, &w, &mut out))?;
    let flops = 2.0 * (SIDE as f64).powi(3);
    Ok(Limits { copy_gbs: 2.0 * BYTES as f64 / copy / 1e9, bf16_tflops: flops / product / 1e12 })
}

/// Between -1 and 1.
fn noise(i: usize) -> bf16 {
    let bits = (i as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    bf16::from_f32(bits as f32 / f32::from(1_u16 << 12) / f32::from(1_u16 << 11) - 1.0)
}

/// Seconds on the device's clock of one of `rounds` calls, issued back to back: the fastest of some
/// such rows, after one call to warm up.
pub(super) fn seconds(
    gpu: &Gpu,
    rounds: usize,
    mut call: impl FnMut() -> Result<(), GpuError>,
) -> Result<f64, GpuError> {
    call()?;
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let begun = Moment::now(gpu)?;
        for _ in 0..rounds {
            call()?;
        }
        let ended = Moment::now(gpu)?;
        best = best.min(f64::from(begun.milliseconds_to(&ended)?) / 1e3 / rounds as f64);
    }
    Ok(best)
}

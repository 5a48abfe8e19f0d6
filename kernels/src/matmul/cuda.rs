//! Products of activations and weights on a device: of few rows with the weights as they lie in the
//! file, of many with their bf16 by tensor cores.

mod matvec;

use super::PackError;
use super::matrix::check_shape;
use crate::BlockFormat;
use crate::cuda::{Buffer, Gemm, Gpu, GpuError, add_bias, dequantize, gemm, random};
use half::bf16;
use std::fmt;

/// Weights `[rows, cols]` on a device: `rows` outputs, `cols` inputs.
#[derive(Debug)]
pub struct GpuMatrix {
    rows: usize,
    cols: usize,
    format: BlockFormat,
    /// As they lie in the file; of floats a multiple of 8.
    blocks: Buffer<u8>,
    /// The nearest bf16, where they are kept.
    dense: Option<Buffer<bf16>>,
}

/// Why there are no weights on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuMatrixError {
    /// Bytes are no matrix.
    Shape(PackError),
    /// The device does not take them.
    Gpu(GpuError),
}

impl GpuMatrix {
    /// Copies `bytes`, `rows × cols` numbers of `format` row after row as a GGUF file has them.
    ///
    /// # Errors
    /// When they are no such matrix, or the device has not so much memory left.
    pub fn new(
        gpu: &Gpu,
        format: BlockFormat,
        (rows, cols): (usize, usize),
        bytes: &[u8],
    ) -> Result<Self, GpuMatrixError> {
        check_shape(format, rows, cols, bytes.len()).map_err(GpuMatrixError::Shape)?;
        let blocks = copied(gpu, format, bytes).map_err(GpuMatrixError::Gpu)?;
        Ok(Self { rows, cols, format, blocks, dense: None })
    }

    /// `rows × cols` random numbers in bf16 of this seed and deviation, made there; see
    /// [`crate::random`].
    ///
    /// # Errors
    /// When the device has not so much memory left.
    pub fn random(
        gpu: &Gpu,
        (rows, cols): (usize, usize),
        (seed, deviation): (u64, f32),
    ) -> Result<Self, GpuError> {
        let format = BlockFormat::Bf16;
        let blocks = padded(gpu, format, rows * cols * format.block_bytes())?;
        random(gpu, seed, deviation, &mut blocks.as_bf16().part(0..rows * cols))?;
        Ok(Self { rows, cols, format, blocks, dense: None })
    }

    /// Keeps the nearest bf16 of every weight, at 2 bytes each: products of many rows then need not
    /// make them.
    ///
    /// # Errors
    /// When the device has not so much memory left.
    pub fn keep_dense(&mut self, gpu: &Gpu) -> Result<(), GpuError> {
        let mut dense = Buffer::zeroed(gpu, self.padded())?;
        dequantize(gpu, self.format, &self.blocks, self.rows * self.cols, &mut dense)?;
        self.dense = Some(dense);
        Ok(())
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How the weights are stored.
    pub fn format(&self) -> BlockFormat {
        self.format
    }

    /// The weights as they lie in the file.
    pub fn blocks(&self) -> &Buffer<u8> {
        &self.blocks
    }

    /// Bytes of device memory held.
    pub fn bytes(&self) -> usize {
        self.blocks.bytes() + self.dense.as_ref().map_or(0, Buffer::bytes)
    }

    /// Numbers of an array that dequantizing fills.
    fn padded(&self) -> usize {
        (self.rows * self.cols).next_multiple_of(8)
    }

    /// What they are multiplied as by tensor cores: kept, as they lie in the file, or made now.
    fn dense(&self, gpu: &Gpu, scratch: &mut MatmulScratch) -> Result<Buffer<bf16>, GpuError> {
        if let Some(dense) = &self.dense {
            return Ok(dense.part(0..dense.len()));
        }
        if self.format == BlockFormat::Bf16 {
            return Ok(self.blocks.as_bf16());
        }
        let mut dense = scratch.dense.part(0..self.padded());
        dequantize(gpu, self.format, &self.blocks, self.rows * self.cols, &mut dense)?;
        Ok(dense)
    }
}

fn copied(gpu: &Gpu, format: BlockFormat, bytes: &[u8]) -> Result<Buffer<u8>, GpuError> {
    let blocks = padded(gpu, format, bytes.len())?;
    blocks.part(0..bytes.len()).write(bytes)?;
    Ok(blocks)
}

/// A place for `bytes` bytes, and zeros behind floats up to a multiple of 8 of them.
fn padded(gpu: &Gpu, format: BlockFormat, bytes: usize) -> Result<Buffer<u8>, GpuError> {
    let unit = if format.is_float() { 8 * format.block_bytes() } else { format.block_bytes() };
    Buffer::zeroed(gpu, bytes.next_multiple_of(unit))
}

/// Device memory that products are made in, made once for all matrices of a model.
#[derive(Debug)]
pub struct MatmulScratch {
    /// Of the largest matrix whose bf16 are made for a product.
    dense: Buffer<bf16>,
    /// Sums of slices of columns.
    parts: Buffer<f32>,
}

impl MatmulScratch {
    /// As much as products with any of `matrices` need.
    ///
    /// # Errors
    /// When the device has not so much memory left.
    pub fn new<'a>(
        gpu: &Gpu,
        matrices: impl Iterator<Item = &'a GpuMatrix>,
    ) -> Result<Self, GpuError> {
        let (mut dense, mut parts) = (0, 0);
        for matrix in matrices {
            parts = parts.max(matvec::parts(gpu, matrix));
            if matrix.dense.is_none() && matrix.format != BlockFormat::Bf16 {
                dense = dense.max(matrix.padded());
            }
        }
        Ok(Self { dense: Buffer::zeroed(gpu, dense)?, parts: Buffer::zeroed(gpu, parts)? })
    }
}

/// Rows of activations, as bf16.
#[derive(Clone, Copy, Debug)]
pub struct GpuInput<'a> {
    /// `[rows, cols]`.
    pub high: &'a Buffer<bf16>,
    /// `[rows, cols]`: what rounding left of them, where that is to be multiplied as well.
    pub low: Option<&'a Buffer<bf16>>,
    /// Rows.
    pub rows: usize,
}

/// What a product is added to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addends<'a> {
    /// `[w.rows]`, to every row.
    pub bias: Option<&'a Buffer<f32>>,
    /// What `out` holds, as the residual stream has it.
    pub out: bool,
}

/// `out[t, r] = Σ_c x[t, c] · w[r, c]`, and what is added to it, with `out [x.rows, w.rows]`; see
/// [`crate::matmul`]. Sums are f32.
///
/// # Errors
/// When there is no cuBLASLt, or the device is lost.
///
/// # Panics
/// When an array is too short.
pub fn matmul(
    gpu: &Gpu,
    w: &GpuMatrix,
    x: &GpuInput<'_>,
    (scratch, addends): (&mut MatmulScratch, Addends<'_>),
    out: &mut Buffer<f32>,
) -> Result<(), GpuError> {
    if x.rows <= few_rows(w) {
        by_blocks(gpu, w, x, (scratch, addends), out)
    } else {
        by_tensor_cores(gpu, w, x, (scratch, addends), out)
    }
}

/// [`matmul`] with the weights as they lie in the file.
pub(super) fn by_blocks(
    gpu: &Gpu,
    w: &GpuMatrix,
    x: &GpuInput<'_>,
    (scratch, addends): (&mut MatmulScratch, Addends<'_>),
    out: &mut Buffer<f32>,
) -> Result<(), GpuError> {
    check(w, x, addends, out);
    matvec::matvec(gpu, w, x, (&mut scratch.parts, addends), out)
}

/// [`matmul`] with the weights as bf16.
pub(super) fn by_tensor_cores(
    gpu: &Gpu,
    w: &GpuMatrix,
    x: &GpuInput<'_>,
    (scratch, addends): (&mut MatmulScratch, Addends<'_>),
    out: &mut Buffer<f32>,
) -> Result<(), GpuError> {
    check(w, x, addends, out);
    let dense = w.dense(gpu, scratch)?;
    let shape = Gemm { rows: x.rows, inputs: w.cols, outputs: w.rows, adds: addends.out };
    gemm(gpu, shape, x.high, &dense, out)?;
    if let Some(low) = x.low {
        gemm(gpu, Gemm { adds: true, ..shape }, low, &dense, out)?;
    }
    addends.bias.map_or(Ok(()), |bias| add_bias(gpu, out, bias, x.rows))
}

fn check(w: &GpuMatrix, x: &GpuInput<'_>, addends: Addends<'_>, out: &Buffer<f32>) {
    let (inputs, outputs) = (x.rows * w.cols, x.rows * w.rows);
    let holds = |buffer: &Buffer<bf16>| buffer.len() >= inputs;
    assert!(holds(x.high) && x.low.is_none_or(holds), "{inputs} inputs");
    assert!(out.len() >= outputs, "{} of {outputs} outputs", out.len());
    assert!(addends.bias.is_none_or(|bias| bias.len() == w.rows), "a bias for each output");
}

/// Rows up to which weights are read as they are, once for eight rows: while that is less than
/// reading them as bf16, which have to be made first where they are not kept.
fn few_rows(w: &GpuMatrix) -> usize {
    let own = w.format.block_bytes() as f64 / w.format.block_len() as f64;
    let made = if w.dense.is_some() || w.format == BlockFormat::Bf16 { 0.0 } else { own + 2.0 };
    let passes = ((2.0 + made) / own).floor().clamp(1.0, PASSES_MAX);
    matvec::TOKENS * passes as usize
}

/// More passes over weights are no longer bound by memory alone.
const PASSES_MAX: f64 = 4.0;

impl fmt::Display for GpuMatrixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape(error) => error.fmt(f),
            Self::Gpu(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for GpuMatrixError {}

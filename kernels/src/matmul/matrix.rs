//! Weights, repacked at load.

use super::floats::Floats;
use super::quantized::Quantized;
use super::scales::Scales;
use crate::simd::LANES;
use crate::{Arena, BlockFormat, Cpu};
use std::fmt;

/// Weights `[rows, cols]`: `rows` outputs, `cols` inputs. Lossless: the weights of a product are
/// those that [`crate::dequantize`] gives.
#[derive(Clone)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    weights: Weights,
}

/// Panels of 16 rows.
#[derive(Clone)]
pub(super) enum Weights {
    Quantized(Quantized),
    Floats(Floats),
}

impl Matrix {
    /// Repacks `bytes`, `rows × cols` numbers of `format` row after row as a GGUF file has them.
    pub fn pack(
        cpu: &Cpu,
        format: BlockFormat,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Self, PackError> {
        Self::pack_in((cpu, &mut Arena::new()), format, rows, cols, bytes)
    }

    /// [`Matrix::pack`], into memory beside that of other matrices.
    pub fn pack_in(
        (cpu, arena): (&Cpu, &mut Arena),
        format: BlockFormat,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Self, PackError> {
        check_shape(format, rows, cols, bytes.len())?;
        let weights = match Scales::of(format) {
            Some(scales) => {
                Weights::Quantized(Quantized::pack((cpu, arena), format, scales, cols, bytes))
            }
            None => Weights::Floats(Floats::pack((cpu, arena), format, cols, bytes)),
        };
        Ok(Self { rows, cols, weights })
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        match &self.weights {
            Weights::Quantized(weights) => weights.bytes(),
            Weights::Floats(weights) => weights.bytes(),
        }
    }

    /// Writes row `row` dequantized to `out [cols]`, to the bit as [`crate::dequantize`] does.
    ///
    /// # Panics
    /// When `row` is not below `rows()` or `out` has another length.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "one number per column");
        match &self.weights {
            Weights::Quantized(weights) => weights.row(row, out),
            Weights::Floats(weights) => weights.row(row, out),
        }
    }

    pub(super) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Panels of 16 rows, the last one perhaps not full.
    pub(super) fn panels(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// Bytes of one token in the form that a product reads.
    pub(super) fn input_bytes(&self) -> usize {
        match &self.weights {
            Weights::Quantized(weights) => weights.groups * size_of::<super::input::Group>(),
            Weights::Floats(_) => self.cols * size_of::<f32>(),
        }
    }
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matrix([{}, {}], {} bytes)", self.rows, self.cols, self.bytes())
    }
}

pub(super) fn check_shape(
    format: BlockFormat,
    rows: usize,
    cols: usize,
    given: usize,
) -> Result<(), PackError> {
    if rows == 0 || cols == 0 {
        return Err(PackError::Empty { rows, cols });
    }
    if !cols.is_multiple_of(format.block_len()) {
        return Err(PackError::RaggedBlocks { cols, block: format.block_len() });
    }
    let expected = (cols / format.block_len())
        .checked_mul(format.block_bytes())
        .and_then(|row| row.checked_mul(rows));
    if expected != Some(given) {
        return Err(PackError::WrongLength { format, rows, cols, given });
    }
    Ok(())
}

/// Why bytes are no matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackError {
    /// No rows or no columns.
    Empty {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
    },
    /// A row is not whole blocks.
    RaggedBlocks {
        /// Columns asked for.
        cols: usize,
        /// Numbers in one block of the format.
        block: usize,
    },
    /// The bytes are too few or too many.
    WrongLength {
        /// The format.
        format: BlockFormat,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
        /// Bytes given.
        given: usize,
    },
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { rows, cols } => write!(f, "a matrix of {rows} × {cols} is empty"),
            Self::RaggedBlocks { cols, block } => {
                write!(f, "rows of {cols} numbers are not whole blocks of {block}")
            }
            Self::WrongLength { format, rows, cols, given } => {
                write!(f, "{given} bytes are not {rows} × {cols} numbers of {format:?}")
            }
        }
    }
}

impl std::error::Error for PackError {}

//! Matrices that multiply the same input: those that lie together in the file's formats are one.

use super::supply::Supply;
use crate::LoadError;
use kernels::cuda::{Addends, Buffer, Gpu, GpuError, GpuInput, GpuMatrix, MatmulScratch, matmul};

/// Matrices of the same inputs. Neighbours of one format are one matrix, and their outputs stand side
/// by side in its rows.
pub(super) struct Products {
    pieces: Vec<Piece>,
    /// Of each matrix: its piece, and its first output there.
    places: Vec<(usize, usize)>,
}

struct Piece {
    matrix: GpuMatrix,
    bias: Option<Buffer<f32>>,
    /// Outputs of the pieces before.
    before: usize,
}

/// Outputs of one of several matrices.
pub(super) struct Outputs {
    /// Row `t` from `t · stride` on.
    pub(super) numbers: Buffer<f32>,
    pub(super) stride: usize,
}

impl Products {
    /// Copies the matrices of these names and rows to the device, with biases where `biased`.
    pub(super) fn load(
        gpu: &Gpu,
        supply: &mut Supply<'_>,
        (named, cols): (&[(String, usize)], usize),
        biased: bool,
    ) -> Result<Self, LoadError> {
        let (mut pieces, mut places) = (Vec::new(), Vec::new());
        let (mut first, mut before) = (0, 0);
        while first < named.len() {
            let format = supply.format(&named[first].0);
            let alike = named[first..].iter().take_while(|(name, _)| supply.format(name) == format);
            let end = first + alike.count().max(1);
            let (mut bias, mut outputs) = (Vec::new(), 0);
            for (name, rows) in &named[first..end] {
                places.push((pieces.len(), outputs));
                outputs += rows;
                if biased {
                    bias.extend(supply.bias(name, *rows)?);
                }
            }
            let matrix = supply.matrix(gpu, &named[first..end], cols)?;
            let bias = biased.then(|| Buffer::of(gpu, &bias)).transpose()?;
            pieces.push(Piece { matrix, bias, before });
            before += outputs;
            first = end;
        }
        Ok(Self { pieces, places })
    }

    pub(super) fn matrices(&self) -> impl Iterator<Item = &GpuMatrix> {
        self.pieces.iter().map(|piece| &piece.matrix)
    }

    pub(super) fn matrices_mut(&mut self) -> impl Iterator<Item = &mut GpuMatrix> {
        self.pieces.iter_mut().map(|piece| &mut piece.matrix)
    }

    /// Multiplies `input`; [`Self::outputs`] says where in `out` what comes to lie.
    pub(super) fn multiply(
        &self,
        gpu: &Gpu,
        input: &GpuInput<'_>,
        scratch: &mut MatmulScratch,
        out: &Buffer<f32>,
    ) -> Result<(), GpuError> {
        for Piece { matrix, bias, before } in &self.pieces {
            let mut out = out.part(input.rows * before..input.rows * (before + matrix.rows()));
            let addends = Addends { bias: bias.as_ref(), out: false };
            matmul(gpu, matrix, input, (scratch, addends), &mut out)?;
        }
        Ok(())
    }

    /// The outputs of matrix number `index` in what [`Self::multiply`] gave for `rows` rows.
    pub(super) fn outputs(&self, index: usize, rows: usize, of: &Buffer<f32>) -> Outputs {
        let (piece, first) = self.places[index];
        let Piece { matrix, before, .. } = &self.pieces[piece];
        let start = rows * before;
        let numbers = of.part(start + first..start + rows * matrix.rows());
        Outputs { numbers, stride: matrix.rows() }
    }
}

//! Where a device's weights come from: a file, or chance.

use crate::LoadError;
use crate::shelf::Shelf;
use kernels::BlockFormat;
use kernels::cuda::{Gpu, GpuMatrix, GpuMatrixError};

/// What gives tensors by name.
pub(super) enum Supply<'a> {
    /// A file's.
    File(Shelf<'a>),
    /// Random numbers in bf16, made on the device: of each matrix their own.
    Random {
        /// Matrices so far: the seed of the next.
        made: u64,
    },
}

impl Supply<'_> {
    /// How the matrix of this name is stored, if there is one.
    pub(super) fn format(&self, name: &str) -> Option<BlockFormat> {
        match self {
            Self::File(shelf) => shelf.format(name),
            Self::Random { .. } => Some(BlockFormat::Bf16),
        }
    }

    /// Matrices of one format, one below the other, as one on the device.
    pub(super) fn matrix(
        &mut self,
        gpu: &Gpu,
        named: &[(String, usize)],
        cols: usize,
    ) -> Result<GpuMatrix, LoadError> {
        let rows = named.iter().map(|(_, rows)| rows).sum();
        let shelf = match self {
            Self::File(shelf) => shelf,
            Self::Random { made } => {
                *made += 1;
                return Ok(GpuMatrix::random(gpu, (rows, cols), (*made, DEVIATION))?);
            }
        };
        let mut tensors = Vec::with_capacity(named.len());
        for (name, rows) in named {
            tensors.push(shelf.matrix(name, *rows, cols)?);
        }
        let together: Vec<u8>;
        let bytes = match &tensors[..] {
            [one] => one.bytes,
            several => {
                together = several.iter().map(|tensor| tensor.bytes).collect::<Vec<_>>().concat();
                &together[..]
            }
        };
        let (format, name) = (tensors[0].format, tensors[0].name);
        let matrix = GpuMatrix::new(gpu, format, (rows, cols), bytes);
        let matrix = matrix.map_err(|error| refused(name, error))?;
        for tensor in &tensors {
            shelf.release(tensor);
        }
        Ok(matrix)
    }

    pub(super) fn norm(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        match self {
            Self::File(shelf) => shelf.norm(name, len),
            Self::Random { .. } => Ok(vec![1.0; len]),
        }
    }

    pub(super) fn bias(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        match self {
            Self::File(shelf) => shelf.bias(name, len),
            Self::Random { .. } => Ok(vec![0.0; len]),
        }
    }

    /// Refuses a file with tensors that nobody took.
    pub(super) fn finish(&self) -> Result<(), LoadError> {
        match self {
            Self::File(shelf) => shelf.finish(),
            Self::Random { .. } => Ok(()),
        }
    }
}

fn refused(name: &str, error: GpuMatrixError) -> LoadError {
    match error {
        GpuMatrixError::Shape(error) => LoadError::bad_tensor(name, error.to_string()),
        GpuMatrixError::Gpu(error) => LoadError::Gpu(error),
    }
}

/// Of random weights: near what Llamas are initialised with, so activations stay of ordinary size.
const DEVIATION: f32 = 0.02;

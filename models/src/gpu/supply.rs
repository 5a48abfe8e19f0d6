//! Where a device's weights come from: a file, or chance.

use crate::LoadError;
use crate::shelf::Shelf;
use half::bf16;
use kernels::BlockFormat;
use kernels::cuda::{Gpu, GpuMatrix, GpuMatrixError};

/// What gives tensors by name.
pub(super) enum Supply<'a> {
    /// A file's.
    File(Shelf<'a>),
    /// Small numbers in bf16, the same in each matrix: enough for the largest.
    Random(Vec<u8>),
}

impl Supply<'_> {
    /// Numbers for matrices of up to `most` of them: plus or minus 1/64 to 1/32.
    pub(super) fn random(most: usize) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut bytes = Vec::with_capacity(most.next_multiple_of(4) * 2);
        while bytes.len() < most * 2 {
            // Marsaglia's xorshift: four numbers, each a sign and seven bits behind the point.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let numbers = state & 0x807F_807F_807F_807F | SIXTY_FOURTHS;
            bytes.extend_from_slice(&numbers.to_le_bytes());
        }
        Self::Random(bytes)
    }

    /// How the matrix of this name is stored, if there is one.
    pub(super) fn format(&self, name: &str) -> Option<BlockFormat> {
        match self {
            Self::File(shelf) => shelf.format(name),
            Self::Random(_) => Some(BlockFormat::Bf16),
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
            Self::Random(bytes) => {
                let bytes = &bytes[..rows * cols * size_of::<bf16>()];
                let matrix = GpuMatrix::new(gpu, BlockFormat::Bf16, (rows, cols), bytes);
                return matrix.map_err(|error| refused("random weights", error));
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
            Self::Random(_) => Ok(vec![1.0; len]),
        }
    }

    pub(super) fn bias(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        match self {
            Self::File(shelf) => shelf.bias(name, len),
            Self::Random(_) => Ok(vec![0.0; len]),
        }
    }

    /// Refuses a file with tensors that nobody took.
    pub(super) fn finish(&self) -> Result<(), LoadError> {
        match self {
            Self::File(shelf) => shelf.finish(),
            Self::Random(_) => Ok(()),
        }
    }
}

fn refused(name: &str, error: GpuMatrixError) -> LoadError {
    match error {
        GpuMatrixError::Shape(error) => LoadError::bad_tensor(name, error.to_string()),
        GpuMatrixError::Gpu(error) => LoadError::Gpu(error),
    }
}

/// Four times 1/64 in bf16.
const SIXTY_FOURTHS: u64 = 0x3C80_3C80_3C80_3C80;

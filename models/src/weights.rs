//! Weights files: the memory mapping, and tensors as named bytes whichever container holds them.
//!
//! Owns the only `unsafe` of this crate: mapping a file.

use crate::{Gguf, LoadError, Safetensors};
use kernels::BlockFormat;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// A file mapped read-only.
#[derive(Debug)]
pub struct Mapping {
    map: memmap2::Mmap,
}

impl Mapping {
    /// Maps `path`.
    ///
    /// # Errors
    /// The file cannot be opened or mapped.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let io = |source| LoadError::Io { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.is_dir() {
            return Err(io(std::io::ErrorKind::IsADirectory.into()));
        }
        // SAFETY: the mapping is private and read-only, and nothing here keeps a slice of it
        // beyond `self`. What the type system cannot rule out is another process changing or
        // truncating the file while it is mapped: then reads see other bytes, or the process gets
        // SIGBUS. The catalogue writes files aside and renames them, so that a file under its
        // final name is never written to; a user's own file is mapped only while it is packed.
        #[expect(unsafe_code, reason = "mapping a file is unsafe by nature; see SAFETY")]
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(io)?;
        Ok(Self { map })
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Lets the system take back the memory behind `range`, whole pages of it. Reading it again
    /// reads the file again.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        {
            let start = range.start.next_multiple_of(SYSTEM_PAGE);
            let end = range.end / SYSTEM_PAGE * SYSTEM_PAGE;
            if start >= end {
                return;
            }
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: for a mapping of a file that nobody wrote to, DONTNEED only drops pages that
            // the next access reads from the file again: no byte that a slice shows changes. The
            // range lies in the mapping, or the call fails.
            #[expect(unsafe_code, reason = "see SAFETY")]
            let released = unsafe { self.map.unchecked_advise_range(advice, start, end - start) };
            if let Err(error) = released {
                tracing::debug!(%error, "the system kept a range of a mapping");
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// Feeds the whole file to `hasher`, holding little of it in memory.
    pub(crate) fn hash(&self, hasher: &mut blake3::Hasher) {
        const STEP: usize = 16 << 20;
        for start in (0..self.map.len()).step_by(STEP) {
            let range = start..self.map.len().min(start + STEP);
            hasher.update(&self.map[range.clone()]);
            self.release(range);
        }
    }
}

/// One tensor: its bytes as stored in the file.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// How its elements are stored.
    pub format: BlockFormat,
    /// Outermost dimension first: a matrix is `[outputs, inputs]`.
    pub shape: &'a [usize],
    /// `elements / block_len * block_bytes` bytes.
    pub bytes: &'a [u8],
}

/// Where a tensor lies in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How its elements are stored.
    pub format: BlockFormat,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Its bytes in the file.
    pub range: Range<usize>,
}

/// A model's tensors, in either container.
#[derive(Debug)]
pub enum Weights {
    /// One GGUF file.
    Gguf(Gguf),
    /// One or several safetensors files.
    Safetensors(Safetensors),
}

impl Weights {
    /// The tensor of this name, where there is one.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        match self {
            Self::Gguf(file) => file.tensor(name),
            Self::Safetensors(files) => files.tensor(name),
        }
    }

    /// Names of all tensors.
    pub fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Gguf(file) => Box::new(file.names()),
            Self::Safetensors(files) => Box::new(files.names()),
        }
    }

    /// Lets the system take back the memory behind a tensor's bytes.
    pub(crate) fn release(&self, tensor: &Tensor<'_>) {
        for mapping in self.mappings() {
            let file = mapping.bytes().as_ptr_range();
            let tensor = tensor.bytes.as_ptr_range();
            if file.start <= tensor.start && tensor.end <= file.end {
                let start = tensor.start as usize - file.start as usize;
                mapping.release(start..start + (tensor.end as usize - tensor.start as usize));
            }
        }
    }

    /// The mapped files, in a fixed order.
    pub(crate) fn mappings(&self) -> Vec<&Mapping> {
        match self {
            Self::Gguf(file) => vec![file.mapping()],
            Self::Safetensors(files) => files.mappings().collect(),
        }
    }
}

/// A small tensor (a norm, a bias) of exactly `shape`, as floats.
pub(crate) fn floats(tensor: &Tensor<'_>, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
    expect_shape(tensor, shape)?;
    let mut out = vec![0.0; shape.iter().product()];
    kernels::dequantize(tensor.format, tensor.bytes, &mut out);
    if out.iter().all(|x| x.is_finite()) {
        return Ok(out);
    }
    Err(LoadError::bad_tensor(tensor.name, "holds a number that is not finite"))
}

/// Refuses a tensor of another shape.
pub(crate) fn expect_shape(tensor: &Tensor<'_>, shape: &[usize]) -> Result<(), LoadError> {
    if tensor.shape == shape {
        return Ok(());
    }
    Err(LoadError::WrongShape {
        name: tensor.name.into(),
        found: tensor.shape.to_vec(),
        expected: shape.to_vec(),
    })
}

/// Smallest page that every system maps; a larger one only keeps a little more.
#[cfg(unix)]
const SYSTEM_PAGE: usize = 4096;

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

    /// Tells the system that the file's bytes will be read once, from front to back.
    pub(crate) fn advise_sequential(&self) {
        #[cfg(unix)]
        if let Err(error) = self.map.advise(memmap2::Advice::Sequential) {
            tracing::debug!(%error, "madvise was refused");
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

    /// The mapped files, in a fixed order.
    pub(crate) fn mappings(&self) -> Vec<&Mapping> {
        match self {
            Self::Gguf(file) => vec![file.mapping()],
            Self::Safetensors(files) => files.mappings().collect(),
        }
    }
}

//! Why a model could not be loaded. Every variant names the thing that is wrong: the file, the
//! byte, the key, the tensor.

use std::path::PathBuf;

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was to be read.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The path is none of the forms a model can have.
    #[error("{}: {why}", path.display())]
    NotAModel {
        /// What was given.
        path: PathBuf,
        /// What is missing there.
        why: String,
    },
    /// The file ends before what it announces.
    #[error("truncated at byte {at}: {what} needs {needs} bytes, {left} are left")]
    Truncated {
        /// What was being read.
        what: String,
        /// Where it begins in the file.
        at: u64,
        /// Bytes that it needs.
        needs: u64,
        /// Bytes that are left.
        left: u64,
    },
    /// The header breaks the rules of its format.
    #[error("malformed {format}: {what}")]
    Malformed {
        /// `GGUF`, `safetensors`, `config.json`.
        format: &'static str,
        /// What is wrong, and where.
        what: String,
    },
    /// A tensor's header entry is wrong in itself.
    #[error("tensor {name:?}: {what}")]
    BadTensor {
        /// Its name.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// The architecture needs a tensor that the file does not hold.
    #[error("missing tensor {0:?}")]
    MissingTensor(String),
    /// A tensor has another shape than the configuration asks for.
    #[error("tensor {name:?} has shape {found:?}, the configuration asks for {expected:?}")]
    WrongShape {
        /// Its name.
        name: String,
        /// Shape in the file, outermost dimension first.
        found: Vec<usize>,
        /// Shape asked for.
        expected: Vec<usize>,
    },
    /// The file holds a tensor that the architecture's description has no place for: computing
    /// without it would be another model.
    #[error("tensor {0:?} has no place in this architecture")]
    UnusedTensor(String),
    /// No description for this architecture.
    #[error("unknown architecture {0:?}")]
    UnknownArchitecture(String),
    /// The configuration lacks something.
    #[error("missing configuration key {0:?}")]
    MissingKey(String),
    /// The configuration holds a key that may change the computation and is not understood.
    #[error("unknown configuration key {0:?}: it may change the computation")]
    UnknownKey(String),
    /// A key has a value that is wrong or not supported.
    #[error("configuration key {key:?}: {what}")]
    BadValue {
        /// The key.
        key: String,
        /// What is wrong with its value.
        what: String,
    },
    /// The vocabulary or its file could not be read.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A GPU cannot hold or run it.
    #[error(transparent)]
    Gpu(#[from] kernels::cuda::GpuError),
    /// The options cannot be met.
    #[error("{0}")]
    BadOption(String),
}

impl LoadError {
    /// A value of `key` that is not supported.
    pub(crate) fn bad_value(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self::BadValue { key: key.into(), what: what.into() }
    }

    /// A tensor whose header entry is wrong.
    pub(crate) fn bad_tensor(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self::BadTensor { name: name.into(), what: what.into() }
    }
}

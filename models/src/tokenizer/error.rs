//! Why a tokenizer could not be built. Every variant names the thing that is wrong.

use crate::{LoadError, TokenId};

/// Why a tokenizer could not be built from a vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerError {
    /// The file does not say something that is needed.
    #[error("{0} is missing")]
    Missing(String),
    /// A value has another type, or lies outside its range.
    #[error("{what}: {why}")]
    Malformed {
        /// The key, or the place in the file.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something is asked for that is not built here; using the vocabulary without it would give
    /// other ids.
    #[error("{what} {name:?} is not supported")]
    Unsupported {
        /// The kind of thing: `vocabulary model`, `pre-tokenizer`, `normalizer`.
        what: &'static str,
        /// Its name in the file.
        name: String,
    },
    /// Two arrays that describe the same tokens differ in length.
    #[error("{what} has {found} entries for {expected} tokens")]
    Length {
        /// The array.
        what: &'static str,
        /// Its entries.
        found: usize,
        /// The vocabulary's entries.
        expected: usize,
    },
    /// One text with two ids.
    #[error("token {text:?} has the ids {first} and {second}")]
    Duplicate {
        /// The text.
        text: String,
        /// The lower id.
        first: TokenId,
        /// The other.
        second: TokenId,
    },
    /// A merge rule over a token that does not exist or that text must not produce.
    #[error("merge {index} ({left:?} with {right:?}) names the unknown token {token:?}")]
    Merge {
        /// Its place in the list.
        index: usize,
        /// Left half.
        left: String,
        /// Right half.
        right: String,
        /// The one that is not there.
        token: String,
    },
    /// An id beyond the vocabulary.
    #[error("{what} is {id}, the vocabulary has {vocab} tokens")]
    OutOfRange {
        /// What has this id.
        what: String,
        /// The id.
        id: u64,
        /// Entries of the vocabulary.
        vocab: usize,
    },
}

impl TokenizerError {
    pub(super) fn malformed(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Malformed { what: what.into(), why: why.into() }
    }
}

impl From<LoadError> for TokenizerError {
    /// Metadata of the wrong type: the message names the key.
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::BadValue { key, what } => Self::Malformed { what: key, why: what },
            other => Self::malformed("metadata", other.to_string()),
        }
    }
}

impl From<TokenizerError> for LoadError {
    fn from(error: TokenizerError) -> Self {
        Self::Tokenizer(error.to_string())
    }
}

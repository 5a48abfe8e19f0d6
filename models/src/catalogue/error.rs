//! Why a model could not be had.

/// Why a model could not be had, and what can be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// Not a name of the catalogue, not a path that exists, not `hf:owner/repo/file`.
    #[error("no model is called '{name}'")]
    Unknown {
        /// As given.
        name: String,
        /// All names.
        known: Vec<String>,
        /// Names that look alike.
        near: Vec<String>,
    },
}

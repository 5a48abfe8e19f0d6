//! The catalogue's models, for tests over real vocabularies.

use models::Gguf;

/// The GGUF file that the catalogue calls `name`, fetched where it is not cached.
pub(crate) fn gguf(name: &str) -> Gguf {
    let path = models::catalogue::fetch(name, &mut models::catalogue::Quiet)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    Gguf::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

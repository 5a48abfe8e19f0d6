//! `config.json` of a Hugging Face folder: reading it, and typed access that names the key.

use crate::LoadError;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Text of a small file, at most [`TEXT_BYTES_MAX`].
pub(crate) fn read_text(path: &Path) -> Result<String, LoadError> {
    let io = |source| LoadError::Io { path: path.to_path_buf(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(io)?;
    file.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        let why = format!("is larger than {TEXT_BYTES_MAX} bytes");
        return Err(LoadError::NotAModel { path: path.to_path_buf(), why });
    }
    Ok(text)
}

/// Configurations and indices take kilobytes; a few megabytes for the largest models.
const TEXT_BYTES_MAX: u64 = 16 << 20;

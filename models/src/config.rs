//! A model's configuration, from GGUF metadata or from `config.json`, read so that nothing is
//! overlooked: every key is read, or listed as harmless, or refused by name.

use crate::LoadError;
use crate::value::{Array, Metadata, Value};
use serde_json::{Map, Value as Json};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Keys of one level of a configuration, and which of them were read.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Stands before every key in errors: `llama.`, `rope_parameters.`.
    prefix: String,
    pairs: Map<String, Json>,
    read: RefCell<BTreeSet<String>>,
}

impl Keys {
    /// The keys of an architecture in GGUF metadata: `llama.block_count` becomes `block_count`.
    pub(crate) fn of_metadata(metadata: &Metadata, arch: &str) -> Self {
        let prefix = format!("{arch}.");
        let pairs = metadata
            .keys()
            .filter_map(|key| Some((key.strip_prefix(&prefix)?, metadata.get(key)?)))
            .map(|(key, value)| (key.to_owned(), json(value)))
            .collect();
        Self::new(prefix, pairs)
    }

    /// The text of a `config.json`.
    pub(crate) fn of_json(text: &str) -> Result<Self, LoadError> {
        let pairs = serde_json::from_str(text).map_err(|error| LoadError::Malformed {
            format: "config.json",
            what: error.to_string(),
        })?;
        Ok(Self::new(String::new(), pairs))
    }

    fn new(prefix: String, pairs: Map<String, Json>) -> Self {
        Self { prefix, pairs, read: RefCell::default() }
    }

    /// The value of `key`, now counted as read; null counts as absent.
    fn get(&self, key: &str) -> Option<&Json> {
        self.read.borrow_mut().insert(key.to_owned());
        self.pairs.get(key).filter(|value| !value.is_null())
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        pick: impl FnOnce(&'a Json) -> Option<T>,
    ) -> Result<Option<T>, LoadError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match pick(value) {
            Some(typed) => Ok(Some(typed)),
            None => Err(self.bad(key, format!("expected {expected}, found {}", short(value)))),
        }
    }

    /// An error about `key`.
    pub(crate) fn bad(&self, key: &str, what: impl Into<String>) -> LoadError {
        LoadError::bad_value(format!("{}{key}", self.prefix), what)
    }

    /// A count, at least 1 and below 2^31, where it is given.
    pub(crate) fn size(&self, key: &str) -> Result<Option<usize>, LoadError> {
        self.typed(key, "an integer from 1 to 2^31", |value| {
            let n = value.as_u64().filter(|n| (1..=1 << 31).contains(n))?;
            usize::try_from(n).ok()
        })
    }

    /// A count that must be given.
    pub(crate) fn needed_size(&self, key: &str) -> Result<usize, LoadError> {
        self.size(key)?.ok_or_else(|| self.missing(key))
    }

    /// A number above 0, where it is given.
    pub(crate) fn positive(&self, key: &str) -> Result<Option<f64>, LoadError> {
        self.typed(key, "a positive number", |value| {
            value.as_f64().filter(|x| *x > 0.0 && x.is_finite() && (*x as f32) > 0.0)
        })
    }

    /// A number above 0 that must be given.
    pub(crate) fn needed_positive(&self, key: &str) -> Result<f64, LoadError> {
        self.positive(key)?.ok_or_else(|| self.missing(key))
    }

    /// A truth value, where it is given.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, LoadError> {
        self.typed(key, "true or false", Json::as_bool)
    }

    /// Text, where it is given.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, LoadError> {
        self.typed(key, "a string", Json::as_str)
    }

    /// A list, where it is given.
    pub(crate) fn list(&self, key: &str) -> Result<Option<&[Json]>, LoadError> {
        self.typed(key, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    /// The keys under `key`, where they are given.
    pub(crate) fn object(&self, key: &str) -> Result<Option<Self>, LoadError> {
        let pairs = self.typed(key, "an object", Json::as_object)?;
        Ok(pairs.map(|pairs| Self::new(format!("{}{key}.", self.prefix), pairs.clone())))
    }

    /// Refuses `key` unless it is absent or says `supported`.
    pub(crate) fn only_flag(&self, key: &str, supported: bool) -> Result<(), LoadError> {
        match self.flag(key)? {
            Some(value) if value != supported => {
                Err(self.bad(key, format!("{value} is not supported")))
            }
            _ => Ok(()),
        }
    }

    /// A key that must be there is not.
    pub(crate) fn missing(&self, key: &str) -> LoadError {
        LoadError::MissingKey(format!("{}{key}", self.prefix))
    }

    /// Refuses the first key that nobody read and that is not `harmless`.
    pub(crate) fn finish(&self, harmless: &[&str]) -> Result<(), LoadError> {
        let read = self.read.borrow();
        let overlooked = self.pairs.iter().find(|(key, value)| {
            !value.is_null() && !read.contains(*key) && !harmless.contains(&key.as_str())
        });
        match overlooked {
            Some((key, _)) => Err(LoadError::UnknownKey(format!("{}{key}", self.prefix))),
            None => Ok(()),
        }
    }
}

/// A metadata value as JSON. Large arrays do not occur under an architecture's prefix.
fn json(value: &Value) -> Json {
    match value {
        Value::Uint(n) => (*n).into(),
        Value::Int(n) => (*n).into(),
        Value::Float(x) if x.is_finite() => (*x).into(),
        // JSON has no such numbers: as text they are refused where a number is asked for.
        Value::Float(x) => x.to_string().into(),
        Value::Bool(b) => (*b).into(),
        Value::Str(text) => text.as_str().into(),
        Value::Array(Array::Ints(v)) => v.as_slice().into(),
        Value::Array(Array::Floats(v)) => v.as_slice().into(),
        Value::Array(Array::Bools(v)) => v.as_slice().into(),
        Value::Array(Array::Strings(v)) => v.as_slice().into(),
    }
}

/// A value for an error message.
fn short(value: &Json) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

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

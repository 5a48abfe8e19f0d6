//! Values of GGUF metadata, and typed access to them that names the key when a type is wrong.

use crate::LoadError;
use std::collections::BTreeMap;

/// A metadata value. Integers and floats of all widths are widened.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Unsigned integers.
    Uint(u64),
    /// Signed integers.
    Int(i64),
    /// 32 and 64 bit floats.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// UTF-8 text.
    Str(String),
    /// Many of one type.
    Array(Array),
}

/// An array of one type. Arrays in arrays are refused by the reader.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Integers of all widths.
    Ints(Vec<i64>),
    /// Floats of both widths.
    Floats(Vec<f32>),
    /// Truth values.
    Bools(Vec<bool>),
    /// Texts.
    Strings(Vec<String>),
}

/// Key/value pairs of a GGUF file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    pairs: BTreeMap<String, Value>,
}

impl Metadata {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.pairs.get(key)
    }

    /// All keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.pairs.keys().map(String::as_str)
    }

    /// The text under `key`; `None` where the key is absent.
    ///
    /// # Errors
    /// This and the accessors below: the key is there with a value of another type or width.
    pub fn str(&self, key: &str) -> Result<Option<&str>, LoadError> {
        self.typed(key, "a string", |value| match value {
            Value::Str(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The integer under `key`, signed or not, that fits `u32`.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, LoadError> {
        self.typed(key, "an integer of 32 bits, not negative", |value| match value {
            Value::Uint(n) => u32::try_from(*n).ok(),
            Value::Int(n) => u32::try_from(*n).ok(),
            _ => None,
        })
    }

    /// The float under `key`, as `f32`; always finite.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, LoadError> {
        self.typed(key, "a finite float", |value| match value {
            Value::Float(x) => Some(*x as f32).filter(|x| x.is_finite()),
            _ => None,
        })
    }

    /// The truth value under `key`.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, LoadError> {
        self.typed(key, "a bool", |value| match value {
            Value::Bool(b) => Some(*b),
            _ => None,
        })
    }

    /// The texts under `key`.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>, LoadError> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Array(Array::Strings(texts)) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// The integers under `key`.
    pub fn ints(&self, key: &str) -> Result<Option<&[i64]>, LoadError> {
        self.typed(key, "an array of integers", |value| match value {
            Value::Array(Array::Ints(ints)) => Some(ints.as_slice()),
            _ => None,
        })
    }

    /// The floats under `key`.
    pub fn floats(&self, key: &str) -> Result<Option<&[f32]>, LoadError> {
        self.typed(key, "an array of floats", |value| match value {
            Value::Array(Array::Floats(floats)) => Some(floats.as_slice()),
            _ => None,
        })
    }

    /// Adds a pair; false where the key is already there.
    pub(crate) fn insert(&mut self, key: String, value: Value) -> bool {
        self.pairs.insert(key, value).is_none()
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        pick: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, LoadError> {
        let Some(value) = self.pairs.get(key) else { return Ok(None) };
        match pick(value) {
            Some(typed) => Ok(Some(typed)),
            None => Err(LoadError::bad_value(
                key,
                format!("expected {expected}, found {}", value.describe()),
            )),
        }
    }
}

impl Value {
    /// Its type, and its value where that is short.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Uint(n) => format!("the integer {n}"),
            Self::Int(n) => format!("the integer {n}"),
            Self::Float(x) => format!("the float {x}"),
            Self::Bool(b) => format!("the bool {b}"),
            Self::Str(text) if text.len() <= 40 => format!("the string {text:?}"),
            Self::Str(text) => format!("a string of {} bytes", text.len()),
            Self::Array(Array::Ints(v)) => format!("an array of {} integers", v.len()),
            Self::Array(Array::Floats(v)) => format!("an array of {} floats", v.len()),
            Self::Array(Array::Bools(v)) => format!("an array of {} bools", v.len()),
            Self::Array(Array::Strings(v)) => format!("an array of {} strings", v.len()),
        }
    }
}

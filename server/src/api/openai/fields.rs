//! What a body of the OpenAI shim may hold: fields that are read (the request types), fields that
//! are taken and do nothing, and fields taken at one value only. Anything else is refused by name:
//! a misspelt `max_token` must not run to the end of the context.

use crate::{ApiError, extract::describe};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Which fields an endpoint takes beside those of its request type.
pub struct Fields {
    /// Fields that many clients send and that change nothing here, with the reason.
    pub ignored: &'static [(&'static str, &'static str)],
    /// Fields that are taken at a value that asks for nothing.
    pub limited: &'static [Limited],
}

/// A field that is refused unless it asks for what happens anyway.
pub struct Limited {
    /// Its name.
    pub name: &'static str,
    /// The value asks for nothing special.
    pub accepts: fn(&Value) -> bool,
    /// What is accepted, and what is missing.
    pub why: &'static str,
}

impl Fields {
    /// Reads a body. The error's `param` is the path of the field it is about.
    pub fn parse<T: DeserializeOwned>(&self, mut body: Map<String, Value>) -> Result<T, ApiError> {
        for (name, _) in self.ignored {
            body.remove(*name);
        }
        for field in self.limited {
            let value = body.remove(field.name).unwrap_or(Value::Null);
            if !value.is_null() && !(field.accepts)(&value) {
                let message = format!("{}: {} (given {})", field.name, field.why, excerpt(&value));
                return Err(refuse(field.name, message).with_code("unsupported_value"));
            }
        }
        serde_path_to_error::deserialize(Value::Object(body))
            .map_err(|error| describe(&error.path().to_string(), error.inner()))
    }
}

/// The value is absent in all but name.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The value is the number 1.
pub fn is_one(value: &Value) -> bool {
    value.as_u64() == Some(1)
}

/// The value is a response format of plain text.
pub fn is_text_format(value: &Value) -> bool {
    value["type"] == "text"
}

/// The value leaves the choice of tools open or says none.
pub fn is_free_tool_choice(value: &Value) -> bool {
    value == "none" || value == "auto"
}

/// The value asks for text only.
pub fn is_text_only(value: &Value) -> bool {
    value.as_array().is_some_and(|modes| modes.iter().all(|mode| mode == "text"))
}

/// A refusal about one field.
pub fn refuse(param: &str, message: impl Into<String>) -> ApiError {
    ApiError::bad_request(param, message)
}

/// The value, short enough for a message.
fn excerpt(value: &Value) -> String {
    const CHARS_MAX: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

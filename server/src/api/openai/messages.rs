//! Chat messages as OpenAI clients send them, and as the chat template takes them.

use super::fields::{is_empty, refuse};
use crate::ApiError;
use models::Message;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

/// One message of a chat request.
///
/// Clients send an answer back as they got it, with fields that are null or empty here; those are
/// taken, and refused when they say something.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatMessage {
    /// `system`, `developer` (read as `system`), `user`, `assistant` or `tool`.
    pub role: String,
    /// Text, or parts of type `text`, which are joined by line breaks.
    #[schema(value_type = ChatContent)]
    pub content: Option<Value>,
    /// Taken and ignored: chat templates have no place for it.
    pub name: Option<String>,
    /// Taken and ignored: a tool's result follows its call.
    pub tool_call_id: Option<String>,
    /// Refused unless empty: tool calls come later.
    #[schema(value_type = Option<Vec<Object>>)]
    pub tool_calls: Option<Value>,
    /// Refused unless null.
    #[schema(value_type = Option<Object>)]
    pub function_call: Option<Value>,
    /// Refused unless null.
    #[schema(value_type = Option<String>)]
    pub refusal: Option<Value>,
    /// Refused unless null.
    #[schema(value_type = Option<Object>)]
    pub audio: Option<Value>,
    /// Refused unless empty.
    #[schema(value_type = Option<Vec<Object>>)]
    pub annotations: Option<Value>,
}

/// The content of a message, for the API's description.
#[derive(Debug, ToSchema)]
#[schema(as = ChatContent)]
#[serde(untagged)]
pub enum ChatContent {
    /// Text.
    Text(String),
    /// Parts.
    Parts(Vec<ChatPart>),
}

/// A part of a message, for the API's description.
#[derive(Debug, ToSchema)]
pub struct ChatPart {
    /// `text`: other types are refused by name.
    #[schema(rename = "type")]
    pub kind: String,
    /// The text.
    pub text: String,
}

/// Messages for the chat template.
pub fn messages(given: &[ChatMessage]) -> Result<Vec<Message>, ApiError> {
    if given.is_empty() {
        return Err(refuse("messages", "messages is empty: at least one message is needed"));
    }
    given.iter().enumerate().map(|(index, message)| convert(index, message)).collect()
}

fn convert(index: usize, given: &ChatMessage) -> Result<Message, ApiError> {
    let at = |field: &str| format!("messages[{index}].{field}");
    let role = match given.role.as_str() {
        "developer" => "system",
        role @ ("system" | "user" | "assistant" | "tool") => role,
        other => {
            let param = at("role");
            let message = format!(
                "{param} is {other:?}; it must be system, developer, user, assistant or tool"
            );
            return Err(refuse(&param, message));
        }
    };
    let unsupported = [
        ("tool_calls", &given.tool_calls),
        ("function_call", &given.function_call),
        ("refusal", &given.refusal),
        ("audio", &given.audio),
        ("annotations", &given.annotations),
    ];
    for (field, value) in unsupported {
        if value.as_ref().is_some_and(|value| !is_empty(value)) {
            let param = at(field);
            return Err(refuse(&param, format!("{param} is not supported: leave it out or empty")));
        }
    }
    let content = content(&at("content"), given.content.as_ref())?;
    Ok(Message { role: role.to_owned(), content })
}

fn content(param: &str, given: Option<&Value>) -> Result<String, ApiError> {
    match given {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            let texts: Vec<&str> = parts
                .iter()
                .enumerate()
                .map(|(index, part)| part_text(&format!("{param}[{index}]"), part))
                .collect::<Result<_, _>>()?;
            Ok(texts.join("\n"))
        }
        Some(_) => Err(refuse(param, format!("{param} must be text or a list of text parts"))),
        None => Err(refuse(param, format!("{param} is missing: a message needs text"))),
    }
}

/// The text of a part. A part's cache hints are taken and ignored: they change no token.
fn part_text<'a>(param: &str, part: &'a Value) -> Result<&'a str, ApiError> {
    const TAKEN: [&str; 4] = ["type", "text", "cache_control", "prompt_cache_breakpoint"];
    let Some(fields) = part.as_object() else {
        return Err(refuse(param, format!("{param} must be an object with type and text")));
    };
    match part["type"].as_str() {
        Some("text") => {}
        Some(other) => {
            let message =
                format!("{param} is of type {other:?}: this server reads text parts only");
            return Err(refuse(&format!("{param}.type"), message));
        }
        None => return Err(refuse(&format!("{param}.type"), format!("{param} has no type"))),
    }
    if let Some(name) = fields.keys().find(|name| !TAKEN.contains(&name.as_str())) {
        return Err(refuse(
            &format!("{param}.{name}"),
            format!("{param} has an unknown field {name:?}"),
        ));
    }
    part["text"]
        .as_str()
        .ok_or_else(|| refuse(&format!("{param}.text"), format!("{param}.text must be a text")))
}

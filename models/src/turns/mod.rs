//! Turns: a model's chat template, and the text it puts around one message of each role.

use crate::{TokenId, Tokenizer};
use std::sync::Arc;

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// Why messages could not be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TurnsError {
    /// The model has no chat template.
    #[error("this model has no chat template: send plain text or tokens")]
    NoTemplate,
    /// The template refused the messages.
    #[error("the chat template failed: {0}")]
    Template(String),
    /// The template has no such role.
    #[error("the chat template knows no role {0:?}")]
    UnknownRole(String),
}

/// Renders messages, whole chats or one role at a time, to token ids.
#[derive(Debug)]
pub struct Turns {}

impl Turns {
    /// With a template (Jinja source) or without (base models).
    pub fn new(tokenizer: Arc<Tokenizer>, template: Option<&str>) -> Result<Self, TurnsError> {
        let _ = (tokenizer, template);
        unimplemented!()
    }

    /// The model has a chat template.
    pub fn has_template(&self) -> bool {
        unimplemented!()
    }

    /// The default root: the template's system turn with its own default text, else BOS, else
    /// the profile's sink text. Never empty.
    pub fn default_root(&self) -> Vec<TokenId> {
        unimplemented!()
    }

    /// A root that is a turn (`role` given, BOS included where the template begins with it) or
    /// plain text after BOS.
    pub fn root(&self, role: Option<&str>, text: &str) -> Result<Vec<TokenId>, TurnsError> {
        let _ = (role, text);
        unimplemented!()
    }

    /// A fragment's or tail part's own tokens: with a role, that role's template text around it.
    /// No special tokens are added, and those written in `text` stay text.
    pub fn part(&self, role: Option<&str>, text: &str) -> Result<Vec<TokenId>, TurnsError> {
        let _ = (role, text);
        unimplemented!()
    }

    /// What makes the model answer: the opening of an assistant turn. Empty without a template.
    pub fn generation_prompt(&self) -> Vec<TokenId> {
        unimplemented!()
    }

    /// A whole chat by the template, with the generation prompt.
    pub fn chat(&self, messages: &[Message]) -> Result<Vec<TokenId>, TurnsError> {
        let _ = messages;
        unimplemented!()
    }
}

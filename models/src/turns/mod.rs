//! Turns: a model's chat template, and the text it puts around one message of each role.
//!
//! The template's own text becomes ids with special tokens parsed; what a client wrote never
//! does, so that nobody ends a turn, or begins one, by writing `<|im_end|>` in a message.
//!
//! Where a message holds no special token's spelling, template and content are encoded as one
//! text: a byte-level vocabulary may merge across the boundary, and this is what the model was
//! trained on. Where it does hold one, the pieces are encoded apart and their ids joined.

mod date;
mod frame;
mod template;

pub use date::Date;

use crate::{TokenId, Tokenizer};
use frame::{Frame, MARK, message};
use std::collections::BTreeMap;
use std::sync::Arc;
use template::Template;

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
pub struct Turns {
    tokenizer: Arc<Tokenizer>,
    template: Option<Template>,
    /// Frames of the usual roles, as far as the template knows them.
    frames: BTreeMap<&'static str, Frame>,
    default_root: Vec<TokenId>,
    generation_prompt: Vec<TokenId>,
}

/// A stretch of a rendered chat.
enum Stretch<'a> {
    Template(&'a str),
    Content(&'a str),
}

impl Turns {
    /// With a template (Jinja source) or without (base models). Templates that write a date get
    /// [`Date::default`].
    ///
    /// # Errors
    /// The template is no Jinja.
    pub fn new(tokenizer: Arc<Tokenizer>, template: Option<&str>) -> Result<Self, TurnsError> {
        Self::dated(tokenizer, template, Date::default())
    }

    /// As [`new`](Self::new), with the date that templates write.
    ///
    /// # Errors
    /// The template is no Jinja.
    pub fn dated(
        tokenizer: Arc<Tokenizer>,
        template: Option<&str>,
        date: Date,
    ) -> Result<Self, TurnsError> {
        let spellings = (tokenizer.bos_text(), tokenizer.eos_text());
        let template = template.map(|source| Template::new(source, spellings, date)).transpose()?;
        let mut turns = Self {
            tokenizer,
            template,
            frames: BTreeMap::new(),
            default_root: Vec::new(),
            generation_prompt: Vec::new(),
        };
        turns.frames = turns.usual_frames();
        turns.default_root = turns.find_default_root();
        turns.generation_prompt = turns.find_generation_prompt();
        Ok(turns)
    }

    /// The model has a chat template.
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// The default root: the template's system turn with its own default text, else BOS, else
    /// the profile's sink text. Never empty.
    pub fn default_root(&self) -> Vec<TokenId> {
        self.default_root.clone()
    }

    /// A root that is a turn (`role` given, BOS included where the template begins with it) or
    /// plain text after BOS. Never empty: without text and BOS it is the sink text.
    ///
    /// # Errors
    /// The model has no template, or the template has no turn of this role of its own (Gemma's
    /// writes system messages into the user's turn).
    pub fn root(&self, role: Option<&str>, text: &str) -> Result<Vec<TokenId>, TurnsError> {
        let Some(role) = role else {
            return Ok(self.as_root(self.tokenizer.encode(text, false)));
        };
        let template = self.template.as_ref().ok_or(TurnsError::NoTemplate)?;
        let frame = Frame::first(template, &self.tokenizer, role)?;
        Ok(self.as_root(self.framed(&frame, text)))
    }

    /// A fragment's or tail part's own tokens: with a role, that role's template text around it.
    /// No special tokens are added, and those written in `text` stay text. A BOS that the
    /// template writes before each turn is left out: it stands in the root.
    ///
    /// # Errors
    /// The model has no template, or the template does not know the role.
    pub fn part(&self, role: Option<&str>, text: &str) -> Result<Vec<TokenId>, TurnsError> {
        let Some(role) = role else { return Ok(self.tokenizer.encode(text, false)) };
        let template = self.template.as_ref().ok_or(TurnsError::NoTemplate)?;
        if let Some(frame) = self.frames.get(role) {
            return Ok(self.framed(frame, text));
        }
        let user = self.frames.get("user");
        let frame = Frame::inside(template, &self.tokenizer, role, user)?;
        Ok(self.framed(&frame, text))
    }

    /// What makes the model answer: the opening of an assistant turn. Empty without a template.
    pub fn generation_prompt(&self) -> Vec<TokenId> {
        self.generation_prompt.clone()
    }

    /// What stands behind an assistant's answer and ends its turn. Empty without a template.
    pub fn end_of_answer(&self) -> Vec<TokenId> {
        let Some(frame) = self.frames.get("assistant") else { return Vec::new() };
        self.stretch_ids(&[Stretch::Template(&frame.after)], false)
    }

    /// A whole chat by the template, with the generation prompt: the ids of the rendered text,
    /// with one BOS in front where the model wants it.
    ///
    /// # Errors
    /// The model has no template, the template refuses the messages, or a message holds the
    /// spelling of a special token where the template rewrites contents, so that the two cannot
    /// be told apart.
    pub fn chat(&self, messages: &[Message]) -> Result<Vec<TokenId>, TurnsError> {
        let template = self.template.as_ref().ok_or(TurnsError::NoTemplate)?;
        let rendered = template.render(messages, true)?;
        let has_special =
            messages.iter().any(|message| self.tokenizer.holds_special(&message.content));
        let ids = if has_special {
            self.chat_in_pieces(template, messages, &rendered)?
        } else {
            self.tokenizer.encode(&rendered, true)
        };
        Ok(self.with_bos(ids))
    }

    /// Ids of a chat whose contents must not be read for special tokens: rendered with marks in
    /// their place, which tells the template's own text.
    fn chat_in_pieces(
        &self,
        template: &Template,
        messages: &[Message],
        rendered: &str,
    ) -> Result<Vec<TokenId>, TurnsError> {
        let mut mark = MARK.to_owned();
        while rendered.contains(&mark) {
            mark.push('-');
        }
        let marked: Vec<Message> = messages
            .iter()
            .enumerate()
            .map(|(index, given)| message(&given.role, &format!("{mark}{index}{mark}")))
            .collect();
        let marked = template.render(&marked, true)?;
        let stretches = self.stretches(&marked, &mark, messages);
        let joined: String = stretches
            .iter()
            .map(|stretch| match stretch {
                Stretch::Template(text) | Stretch::Content(text) => *text,
            })
            .collect();
        if joined != rendered {
            let why = "a message spells a special token, and the template rewrites messages";
            return Err(TurnsError::Template(why.into()));
        }
        Ok(self.stretch_ids(&stretches, self.tokenizer.wants_space_first()))
    }

    /// A rendering whose contents are `{mark}{index}{mark}`, with the contents put in.
    fn stretches<'a>(
        &self,
        marked: &'a str,
        mark: &str,
        messages: &'a [Message],
    ) -> Vec<Stretch<'a>> {
        let pieces = marked.split(mark).enumerate();
        let stretch = |(place, text): (usize, &'a str)| {
            // Template text and indices take turns.
            let given = text.parse::<usize>().ok().and_then(|index| messages.get(index));
            match given.filter(|_| place % 2 == 1) {
                None => Stretch::Template(text),
                Some(Message { role, content }) => {
                    let frame = self.frames.get(role.as_str());
                    Stretch::Content(frame.map_or(content, |frame| frame.trimmed(content)))
                }
            }
        };
        pieces.map(stretch).collect()
    }

    /// Ids of one message in its frame.
    fn framed(&self, frame: &Frame, content: &str) -> Vec<TokenId> {
        let content = frame.trimmed(content);
        if self.tokenizer.holds_special(content) {
            let stretches = [
                Stretch::Template(frame.before.as_str()),
                Stretch::Content(content),
                Stretch::Template(&frame.after),
            ];
            return self.stretch_ids(&stretches, frame.wants_space);
        }
        let whole = format!("{}{content}{}", frame.before, frame.after);
        self.stretch_ids(&[Stretch::Template(&whole)], frame.wants_space)
    }

    fn stretch_ids(&self, stretches: &[Stretch<'_>], mut wants_space: bool) -> Vec<TokenId> {
        let mut ids = Vec::new();
        for stretch in stretches {
            let (text, special) = match stretch {
                Stretch::Template(text) => (text, true),
                Stretch::Content(text) => (text, false),
            };
            self.tokenizer.encode_part(text, special, &mut wants_space, &mut ids);
        }
        ids
    }

    fn usual_frames(&self) -> BTreeMap<&'static str, Frame> {
        let Some(template) = &self.template else { return BTreeMap::new() };
        let mut frames: BTreeMap<&'static str, Frame> = BTreeMap::new();
        for role in ["user", "assistant", "system", "tool"] {
            let user = frames.get("user");
            if let Ok(frame) = Frame::inside(template, &self.tokenizer, role, user) {
                frames.insert(role, frame);
            }
        }
        frames
    }

    /// What the template writes before a lone user's turn.
    fn find_default_root(&self) -> Vec<TokenId> {
        let template = self.template.as_ref();
        let lone_user = template.map(|template| Frame::first(template, &self.tokenizer, "user"));
        let text = match (lone_user, self.frames.get("user")) {
            (Some(Ok(first)), Some(user)) => {
                first.before.strip_suffix(&user.before).unwrap_or_default().to_owned()
            }
            _ => String::new(),
        };
        self.as_root(self.tokenizer.encode(&text, true))
    }

    fn find_generation_prompt(&self) -> Vec<TokenId> {
        let Some(template) = &self.template else { return Vec::new() };
        let chat = [message("user", MARK)];
        let (Ok(without), Ok(with)) = (template.render(&chat, false), template.render(&chat, true))
        else {
            return Vec::new();
        };
        let text = with.strip_prefix(&without).unwrap_or_default();
        let wants_space = self.tokenizer.wants_space_after(&without);
        self.stretch_ids(&[Stretch::Template(text)], wants_space)
    }

    /// With BOS, and not empty.
    fn as_root(&self, ids: Vec<TokenId>) -> Vec<TokenId> {
        let ids = self.with_bos(ids);
        if !ids.is_empty() {
            return ids;
        }
        let sink = self.tokenizer.encode(SINK, false);
        if sink.is_empty() { vec![0] } else { sink }
    }

    /// Exactly one BOS in front, where the model wants one.
    fn with_bos(&self, mut ids: Vec<TokenId>) -> Vec<TokenId> {
        let Some(bos) = self.tokenizer.bos() else { return ids };
        let written = ids.iter().take_while(|id| **id == bos).count();
        ids.drain(..written);
        ids.insert(0, bos);
        ids
    }
}

/// What stands in for a root where the model has neither a system turn nor BOS: something has to
/// take the attention that goes to a text's beginning.
const SINK: &str = "\n";

#[cfg(test)]
mod tests;

//! From an item to token ids: the same for every arm, and for the engine in this process as for a
//! server.

use crate::item::{Item, Tail};
use anyhow::Context as _;
use models::{TokenId, Tokenizer, Turns, catalogue};
use std::{path::PathBuf, sync::Arc};

/// A model's text side.
pub(crate) struct Texts {
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) turns: Turns,
}

/// An item as token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prompt {
    pub(crate) root: Arc<[TokenId]>,
    pub(crate) placements: Vec<Arc<[TokenId]>>,
    pub(crate) tail: Vec<TokenId>,
    /// The first right answer, as it would follow the tail.
    pub(crate) gold: Vec<TokenId>,
}

impl Texts {
    /// Of a model by its catalogue name, path, or `hf:OWNER/REPO/FILE`; fetched where it is not
    /// there yet.
    pub(crate) fn open(model: &str) -> anyhow::Result<Self> {
        let (tokenizer, turns) = models::load_text(&path(model)?)?;
        Ok(Self { tokenizer, turns })
    }

    /// With a chat template the user's turn and the opening of the model's are written as the API
    /// writes them; without one, question and answer are marked by words.
    pub(crate) fn prompt(&self, item: &Item) -> anyhow::Result<Prompt> {
        let turns = &self.turns;
        let is_chat = turns.has_template();
        let root = match &item.root {
            None => turns.default_root(),
            Some(text) => turns.root(is_chat.then_some("system"), text)?,
        };
        let placements = item.fragments.iter().map(|fragment| {
            let role = fragment.role.filter(|_| is_chat);
            let text = match (role, fragment.role) {
                (None, Some(role)) => format!("{role}: {}\n", fragment.text),
                _ => fragment.text.clone(),
            };
            Ok(turns.part(role, &text)?.into())
        });
        let placements = placements.collect::<anyhow::Result<_>>()?;
        let tail = self.tail(&item.tail)?;
        // Behind words an answer follows with a space, in a new turn it begins without one.
        let space = if is_chat && item.tail.begin.is_empty() { "" } else { " " };
        let gold = turns.part(None, &format!("{space}{}", item.answers[0]))?;
        Ok(Prompt { root: root.into(), placements, tail, gold })
    }

    /// Tokens of what is asked, up to where the answer begins.
    pub(crate) fn tail(&self, Tail { user, begin }: &Tail) -> anyhow::Result<Vec<TokenId>> {
        let turns = &self.turns;
        if !turns.has_template() {
            let begin = if begin.is_empty() { "Answer:" } else { begin };
            return Ok(turns.part(None, &format!("\n{user}\n{begin}"))?);
        }
        let mut tail = turns.part(Some("user"), user)?;
        tail.extend(turns.generation_prompt());
        tail.extend(turns.part(None, begin)?);
        Ok(tail)
    }
}

/// Where a model's file is.
pub(crate) fn path(model: &str) -> anyhow::Result<PathBuf> {
    catalogue::fetch(model, &mut catalogue::Quiet).with_context(|| format!("model {model}"))
}

impl Prompt {
    /// Tokens before the answer.
    pub(crate) fn len(&self) -> usize {
        let placed: usize = self.placements.iter().map(|tokens| tokens.len()).sum();
        self.root.len() + placed + self.tail.len()
    }
}

#[cfg(test)]
mod tests;

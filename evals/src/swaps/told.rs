//! A story as token ids: the same for every arm.

use super::story::Story;
use crate::{item::Tail, prompt::Texts};
use models::TokenId;
use std::sync::Arc;

/// A story's token ids.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) root: Arc<[TokenId]>,
    pub(crate) fillers: Vec<Arc<[TokenId]>>,
    /// Pieces of each version.
    pub(crate) versions: Vec<Vec<Arc<[TokenId]>>>,
    pub(crate) tail: Vec<TokenId>,
    /// What is to be said of each version.
    lines: Vec<Line>,
    pub(crate) doorbell: Vec<TokenId>,
}

/// A line of the answer.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    lead: Vec<TokenId>,
    value: Vec<TokenId>,
    end: Vec<TokenId>,
}

/// An answer up to where a version's value is to be said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SoFar {
    pub(crate) tokens: Vec<TokenId>,
    /// How many of them were said before each change.
    pub(crate) changes: Vec<usize>,
    /// How many of them begin the last line.
    lead: usize,
}

impl SoFar {
    /// The last line alone, as if nothing had been said before.
    pub(crate) fn alone(&self) -> Self {
        let tokens = self.tokens[self.tokens.len() - self.lead..].to_vec();
        Self { tokens, changes: Vec::new(), lead: self.lead }
    }
}

impl Told {
    pub(crate) fn of(story: &Story, texts: &Texts) -> anyhow::Result<Self> {
        let tokens = |text: &str| texts.turns.part(None, text);
        let fragments = |texts: &[String]| -> anyhow::Result<Vec<Arc<[TokenId]>>> {
            texts.iter().map(|text| Ok(tokens(text)?.into())).collect()
        };
        let line = |(lead, value): (&String, &String)| {
            let (lead, value) = (tokens(lead)?, tokens(&format!(" {value}"))?);
            Ok(Line { lead, value, end: tokens("\n")? })
        };
        let tail = Tail { user: story.user.clone(), begin: String::new() };
        Ok(Self {
            root: texts.turns.default_root().into(),
            fillers: fragments(&story.fillers)?,
            versions: story.versions.iter().map(|v| fragments(v)).collect::<anyhow::Result<_>>()?,
            tail: texts.tail(&tail)?,
            lines: story
                .leads
                .iter()
                .zip(&story.values)
                .map(line)
                .collect::<anyhow::Result<_>>()?,
            doorbell: tokens(story.doorbell)?,
        })
    }

    /// What was said before a version's value: right lines about all versions before it, and how
    /// its own line begins. The doorbell rings behind each change.
    pub(crate) fn so_far(&self, version: usize, rings: bool) -> SoFar {
        let mut so_far = SoFar::default();
        for Line { lead, value, end } in &self.lines[..version] {
            let said = &mut so_far.tokens;
            said.extend(lead.iter().chain(value).chain(end));
            so_far.changes.push(said.len());
            said.extend(self.doorbell.iter().filter(|_| rings));
        }
        let lead = &self.lines[version].lead;
        so_far.tokens.extend(lead);
        so_far.lead = lead.len();
        so_far
    }

    /// Tokens of a version's value.
    pub(crate) fn value(&self, version: usize) -> &[TokenId] {
        &self.lines[version].value
    }

    /// Pieces of a version that the one before it did not have.
    pub(crate) fn new_pieces(&self, version: usize) -> impl Iterator<Item = &Arc<[TokenId]>> {
        let before = &self.versions[version - 1];
        self.versions[version].iter().filter(|piece| !before.contains(piece))
    }

    /// Every fragment.
    pub(crate) fn fragments(&self) -> impl Iterator<Item = &Arc<[TokenId]>> {
        self.fillers.iter().chain(self.versions.iter().flatten())
    }
}

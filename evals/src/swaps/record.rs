//! What a run over swaps is and what it gave: the header of a journal, its lines, and the result
//! file, which `kind` tells from those of other runs.

use super::story::Said;
use crate::{backend::Card, provenance::Provenance};
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

/// Goes up when old files cannot be compared with new ones.
pub(super) const FORMAT: u32 = 1;

/// What these results are of.
pub(crate) const KIND: &str = "swaps";

/// All that decides a run's numbers. Two runs with the same are the same run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    pub(crate) format: u32,
    pub(crate) tasks: Vec<String>,
    pub(crate) model: Card,
    pub(crate) seed: u64,
    /// Stories of each task.
    pub(crate) n: usize,
    /// Changes of a story.
    pub(crate) swaps: usize,
    pub(crate) arms: Vec<String>,
    /// Likeliest tokens that KL is taken over.
    pub(crate) alternatives: usize,
    pub(crate) provenance: Provenance,
}

/// One arm behind one change. No text of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Numbers {
    /// What the greedy answer says.
    pub(crate) said: Said,
    /// Negative log-likelihood of the new value, nats a token.
    pub(crate) nll: f64,
    /// KL(recompute ‖ arm) over the new value's tokens, nats a token; of `recompute` of the same
    /// text.
    pub(crate) kl: f64,
    /// Swaps that the engine made in the generation so far.
    pub(crate) swaps: usize,
    /// Tokens that were computed because of the change.
    pub(crate) tokens: usize,
}

/// One story's numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoryNumbers {
    pub(crate) id: String,
    pub(crate) task: String,
    pub(crate) question: usize,
    /// In the order of the identity's arms; of each, one for each change.
    pub(crate) arms: Vec<Vec<Numbers>>,
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// Always true: what is not complete is a journal, and has another name and form.
    pub(crate) complete: bool,
    /// Always [`KIND`].
    pub(crate) kind: String,
    pub(crate) identity: Identity,
    pub(crate) stories: Vec<StoryNumbers>,
}

impl StoryNumbers {
    /// The story in a line: how often each arm said the new value.
    pub(super) fn line(&self, arms: &[String]) -> String {
        let said = |numbers: &Vec<Numbers>| {
            let new = numbers.iter().filter(|numbers| numbers.said == Said::New).count();
            format!("{new}/{}", numbers.len())
        };
        let arms: Vec<_> =
            arms.iter().zip(&self.arms).map(|(arm, n)| format!("{arm} {}", said(n))).collect();
        format!("{} · {}", self.id, arms.join(" · "))
    }
}

impl Record {
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("reading {shown}"))?;
        let record: Self = serde_json::from_str(&text)
            .with_context(|| format!("{shown} is no result of this version"))?;
        let Identity { format, tasks, n, swaps, arms, .. } = &record.identity;
        ensure!(*format == FORMAT, "{shown} has format {format}; this version reads {FORMAT}");
        let (stories, wanted) = (record.stories.len(), n * tasks.len());
        ensure!(
            record.complete && record.kind == KIND && stories == wanted,
            "{shown} is not complete: {stories} of {wanted} stories"
        );
        let is_whole = |story: &&StoryNumbers| {
            story.arms.len() == arms.len() && story.arms.iter().all(|arm| arm.len() == *swaps)
        };
        if let Some(story) = record.stories.iter().find(|story| !is_whole(story)) {
            anyhow::bail!("{shown}: story {:?} lacks arms or changes", story.id);
        }
        Ok(record)
    }
}

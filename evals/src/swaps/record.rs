//! What a run over swaps is and what it gave: the header of a journal, its lines, and the result
//! file, which `kind` tells from those of other runs.

use super::story::Said;
use crate::{backend::Card, outcome::Outcome, provenance::Provenance};
use anyhow::{bail, ensure};
use serde::{Deserialize, Serialize};
use std::fmt::Display;

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

impl Outcome for Record {
    type Identity = Identity;
    type Part = StoryNumbers;

    fn of_parts(identity: Identity, stories: Vec<StoryNumbers>) -> anyhow::Result<Self> {
        Ok(Self { complete: true, kind: KIND.to_owned(), identity, stories })
    }

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn check(&self, shown: &dyn Display) -> anyhow::Result<()> {
        let Identity { format, tasks, n, swaps, arms, .. } = &self.identity;
        ensure!(*format == FORMAT, "{shown} has format {format}; this version reads {FORMAT}");
        let (stories, wanted) = (self.stories.len(), n * tasks.len());
        ensure!(
            self.complete && self.kind == KIND && stories == wanted,
            "{shown} is not complete: {stories} of {wanted} stories"
        );
        let is_whole = |story: &&StoryNumbers| {
            story.arms.len() == arms.len() && story.arms.iter().all(|arm| arm.len() == *swaps)
        };
        if let Some(story) = self.stories.iter().find(|story| !is_whole(story)) {
            bail!("{shown}: story {:?} lacks arms or changes", story.id);
        }
        Ok(())
    }

    fn id(story: &StoryNumbers) -> &str {
        &story.id
    }

    /// How often each arm said the new value.
    fn line(identity: &Identity, story: &StoryNumbers) -> String {
        let said = |(arm, numbers): (&String, &Vec<Numbers>)| {
            let new = numbers.iter().filter(|numbers| numbers.said == Said::New).count();
            format!("{arm} {new}/{}", numbers.len())
        };
        let arms: Vec<_> = identity.arms.iter().zip(&story.arms).map(said).collect();
        format!("{} · {}", story.id, arms.join(" · "))
    }
}

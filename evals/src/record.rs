//! What a run is and what it gave: the header of a journal, its lines, and the result file.

use crate::{
    backend::Card, metrics::Numbers, outcome::Outcome, provenance::Provenance, summary::Summary,
};
use anyhow::{bail, ensure};
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// Goes up when old files cannot be compared with new ones.
pub(crate) const FORMAT: u32 = 1;

/// All that decides a run's numbers. Two runs with the same are the same run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    pub(crate) format: u32,
    pub(crate) task: String,
    pub(crate) model: Card,
    pub(crate) seed: u64,
    /// Questions.
    pub(crate) n: usize,
    /// Items made of them.
    pub(crate) items: usize,
    /// Fragments of an item, where that was asked for.
    pub(crate) fragments: Option<usize>,
    /// Arms, `recompute` first.
    pub(crate) arms: Vec<String>,
    /// Likeliest tokens that KL is taken over.
    pub(crate) alternatives: usize,
    pub(crate) provenance: Provenance,
}

/// One item's numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ItemNumbers {
    pub(crate) id: String,
    pub(crate) question: usize,
    pub(crate) group: String,
    /// Fragments it has.
    pub(crate) fragments: usize,
    /// Positions it would need, when that is more than the model has: then it was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) too_long: Option<usize>,
    /// In the order of the identity's arms.
    pub(crate) arms: Vec<Numbers>,
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// Always true: what is not complete is a journal, and has another name and form.
    pub(crate) complete: bool,
    pub(crate) identity: Identity,
    pub(crate) summary: Summary,
    pub(crate) items: Vec<ItemNumbers>,
}

impl Record {
    /// Of all items' numbers.
    pub(crate) fn of(identity: Identity, items: Vec<ItemNumbers>) -> Self {
        assert_eq!(items.len(), identity.items, "a record is whole");
        let summary = Summary::of(&identity, &items);
        Self { complete: true, identity, summary, items }
    }
}

impl Outcome for Record {
    type Identity = Identity;
    type Part = ItemNumbers;

    fn of_parts(identity: Identity, items: Vec<ItemNumbers>) -> anyhow::Result<Self> {
        let fits = items.iter().any(|item| item.too_long.is_none());
        let positions = identity.model.context_max;
        ensure!(fits, "no item fits: the context holds {positions} positions");
        Ok(Self::of(identity, items))
    }

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn check(&self, shown: &dyn Display) -> anyhow::Result<()> {
        let Identity { format, items: wanted, arms, .. } = &self.identity;
        ensure!(*format == FORMAT, "{shown} has format {format}; this version reads {FORMAT}");
        let (items, arms) = (self.items.len(), arms.len());
        ensure!(
            self.complete && items == *wanted,
            "{shown} is not complete: {items} of {wanted} items"
        );
        let wants = |item: &ItemNumbers| if item.too_long.is_some() { 0 } else { arms };
        if let Some(item) = self.items.iter().find(|item| item.arms.len() != wants(item)) {
            bail!("{shown}: item {:?} has {} arms, not {arms}", item.id, item.arms.len());
        }
        Ok(())
    }

    fn id(item: &ItemNumbers) -> &str {
        &item.id
    }

    fn line(identity: &Identity, item: &ItemNumbers) -> String {
        if let Some(needs) = item.too_long {
            let limit = identity.model.context_max;
            return format!("{}: left out, it needs {needs} positions of {limit}", item.id);
        }
        let arm = |(name, numbers): (&String, &Numbers)| {
            format!("{name} F1 {:.2} NLL {:.2} KL {:.3}", numbers.f1, numbers.nll, numbers.kl_first)
        };
        let arms: Vec<_> = identity.arms.iter().zip(&item.arms).map(arm).collect();
        format!("{} · {}", item.id, arms.join(" · "))
    }
}

//! What a run is and what it gave: the header of a journal, its lines, and the result file.

use crate::{backend::Card, metrics::Numbers, provenance::Provenance, summary::Summary};
use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

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

/// The first field in which another run differs, with both values.
pub(crate) fn difference<H: Serialize>(own: &H, other: &H) -> Option<String> {
    let fields = |header: &H| match serde_json::to_value(header) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => unreachable!("a run's header is an object"),
    };
    let (own, others) = (fields(own), fields(other));
    let differs = own.iter().find(|(name, value)| others.get(*name) != Some(value));
    differs.map(|(name, value)| format!("{name} is {} there and {value} here", others[name]))
}

/// Written aside and renamed: a file of this name is always whole.
pub(crate) fn save(record: &impl Serialize, path: &Path) -> anyhow::Result<()> {
    let aside = path.with_added_extension("writing");
    let text = serde_json::to_string(record)?;
    fs::write(&aside, text + "\n").with_context(|| format!("writing {}", aside.display()))?;
    fs::rename(&aside, path).with_context(|| format!("writing {}", path.display()))
}

impl Record {
    /// Of all items' numbers.
    pub(crate) fn of(identity: Identity, items: Vec<ItemNumbers>) -> Self {
        assert_eq!(items.len(), identity.items, "a record is whole");
        let summary = Summary::of(&identity, &items);
        Self { complete: true, identity, summary, items }
    }

    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("reading {shown}"))?;
        let record: Self = serde_json::from_str(&text)
            .with_context(|| format!("{shown} is no result of this version"))?;
        let (format, items) = (record.identity.format, record.items.len());
        ensure!(format == FORMAT, "{shown} has format {format}; this version reads {FORMAT}");
        let wanted = record.identity.items;
        ensure!(
            record.complete && items == wanted,
            "{shown} is not complete: {items} of {wanted} items"
        );
        let arms = record.identity.arms.len();
        if let Some(item) = record
            .items
            .iter()
            .find(|item| item.arms.len() != if item.too_long.is_some() { 0 } else { arms })
        {
            bail!("{shown}: item {:?} has {} arms, not {arms}", item.id, item.arms.len());
        }
        Ok(record)
    }
}

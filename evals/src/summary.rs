//! A run in few numbers: each arm's metrics with intervals, alone and beside `recompute`, over all
//! items and by group.

use crate::{
    metrics::{
        METRICS, Numbers,
        bootstrap::{Estimate, percentile},
    },
    record::{Identity, ItemNumbers},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All items, and each group where there are several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Summary {
    /// Items left out because the model's context does not hold them.
    pub(crate) too_long: usize,
    pub(crate) all: Vec<ArmSummary>,
    /// By name, numbers in it by their size.
    pub(crate) groups: Vec<Group>,
}

/// Items of one condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) items: usize,
    pub(crate) arms: Vec<ArmSummary>,
}

/// One arm over some items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArmSummary {
    pub(crate) arm: String,
    /// By the metric's name; without one there was no value.
    pub(crate) metrics: BTreeMap<String, Measured>,
    pub(crate) first_token_ms: Option<Percentiles>,
    pub(crate) context_tokens: f64,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Measured {
    pub(crate) value: Estimate,
    /// The arm less `recompute`, on the items where both have a value.
    pub(crate) difference: Option<Estimate>,
}

/// Of what has a tail rather than a mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
}

impl Summary {
    pub(crate) fn of(identity: &Identity, items: &[ItemNumbers]) -> Self {
        let measured: Vec<_> = items.iter().filter(|item| item.too_long.is_none()).collect();
        let mut names: Vec<&str> = measured.iter().map(|item| item.group.as_str()).collect();
        names.sort_by_key(|name| words(name));
        names.dedup();
        let groups = names.iter().filter(|_| names.len() > 1).map(|name| {
            let of: Vec<_> = measured.iter().copied().filter(|item| item.group == *name).collect();
            Group { name: (*name).to_owned(), items: of.len(), arms: arms(identity, &of) }
        });
        let groups = groups.collect();
        let too_long = items.len() - measured.len();
        Self { too_long, all: arms(identity, &measured), groups }
    }
}

/// A part of a group's name; numbers come before words.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Number(u64),
    Text(String),
}

fn words(name: &str) -> Vec<Word> {
    let word = |word: &str| word.parse().map_or_else(|_| Word::Text(word.to_owned()), Word::Number);
    name.split(' ').map(word).collect()
}

fn arms(identity: &Identity, items: &[&ItemNumbers]) -> Vec<ArmSummary> {
    let arms = identity.arms.iter().enumerate();
    arms.map(|(place, arm)| {
        let of = |item: &ItemNumbers| item.arms[place].clone();
        let metrics = METRICS.iter().filter_map(|metric| {
            let value = |item: &&ItemNumbers| Some((item.question, (metric.of)(&of(item))?));
            let value =
                Estimate::of(&items.iter().filter_map(value).collect::<Vec<_>>(), identity.seed)?;
            let pair = |item: &&ItemNumbers| {
                let difference = (metric.of)(&of(item))? - (metric.of)(&item.arms[0])?;
                Some((item.question, difference))
            };
            let pairs: Vec<_> = items.iter().filter_map(pair).collect();
            let difference = if place == 0 { None } else { Estimate::of(&pairs, identity.seed) };
            Some((metric.name.to_owned(), Measured { value, difference }))
        });
        let numbers: Vec<Numbers> = items.iter().map(|item| of(item)).collect();
        let context: Vec<_> = numbers.iter().map(|numbers| numbers.context_tokens as f64).collect();
        ArmSummary {
            arm: arm.clone(),
            metrics: metrics.collect(),
            first_token_ms: percentiles(numbers.iter().filter_map(|n| n.first_token_ms).collect()),
            context_tokens: context.iter().sum::<f64>() / context.len().max(1) as f64,
        }
    })
    .collect()
}

fn percentiles(mut values: Vec<f64>) -> Option<Percentiles> {
    values.sort_by(f64::total_cmp);
    Some(Percentiles { p50: percentile(&values, 0.5)?, p95: percentile(&values, 0.95)? })
}

#[cfg(test)]
mod tests {
    use super::{percentiles, words};

    #[test]
    fn groups_are_in_the_order_of_their_numbers() {
        let mut names = [
            "24 updates, kept",
            "2 updates, kept",
            "8 updates, kept",
            "gold 10 of 10",
            "gold 1 of 10",
        ];
        names.sort_by_key(|name| words(name));
        assert_eq!(
            names,
            [
                "2 updates, kept",
                "8 updates, kept",
                "24 updates, kept",
                "gold 1 of 10",
                "gold 10 of 10"
            ]
        );
    }

    #[test]
    fn percentiles_sort_by_themselves() {
        let found = percentiles(vec![30.0, 10.0, 20.0]).unwrap();
        assert_eq!((found.p50, found.p95), (20.0, 29.0));
        assert_eq!(percentiles(Vec::new()), None);
    }
}

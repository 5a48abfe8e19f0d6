//! Proactive interference (PI-LLM; Wang and Sun, 2025): values of keys are updated again and again,
//! one update a fragment, and the last value of a key is asked for.
//!
//! Each question stands under three conditions at each number of updates: all appended; all
//! appended with the advice to forget; the superseded ones dropped. What would fool it: values of
//! a key are all of one kind, so naming any of them looks right; chance is one in the updates.

use super::{Making, Task, ask};
use crate::{
    chance::Chance,
    item::{Fragment, Item, Reading},
};
use anyhow::ensure;
use serde::Deserialize;
use std::collections::BTreeMap;

pub(super) const UPDATES: Task = Task {
    name: "updates",
    about: "PI-LLM: the last of many updates of a key, superseded ones kept, forgotten or dropped",
    fragments: None,
    files: &["pi_llm_updates.dev.json"],
    make,
};

/// Updates of each key; from the source's own schedule.
const PER_KEY: [usize; 3] = [2, 8, 24];
/// Keys in an item.
const KEYS: usize = 4;

/// The values of one key.
#[derive(Deserialize)]
#[serde(try_from = "Vec<String>")]
struct Values(Vec<String>);

impl TryFrom<Vec<String>> for Values {
    type Error = String;

    fn try_from(values: Vec<String>) -> Result<Self, String> {
        let (given, most) = (values.len(), PER_KEY[PER_KEY.len() - 1]);
        if given < most {
            return Err(format!("a key has {given} values; {most} are needed"));
        }
        super::check_answers("a key", &values)?;
        Ok(Self(values))
    }
}

/// A key and a value of it.
type Update<'a> = (&'a str, &'a str);

fn make(making: &Making) -> anyhow::Result<Vec<Item>> {
    let values: BTreeMap<String, Values> = making.open(UPDATES.files[0])?.json()?;
    let given = values.len();
    ensure!(given >= KEYS, "{} has {given} keys; {KEYS} are needed", UPDATES.files[0]);
    let keys: Vec<&str> = values.keys().map(String::as_str).collect();
    let mut chance = making.chance("updates");
    let mut items = Vec::new();
    for question in 0..making.n {
        let chosen = chance.sample(&keys, KEYS);
        let asked = *chance.pick(&chosen);
        for per_key in PER_KEY {
            let updates = draw(&mut chance, &chosen, &values, per_key);
            for condition in ["kept", "told to forget", "dropped"] {
                items.push(item(question, asked, &updates, (per_key, condition)));
            }
        }
    }
    Ok(items)
}

/// Updates of all keys in random order.
fn draw<'a>(
    chance: &mut Chance,
    keys: &[&'a str],
    values: &'a BTreeMap<String, Values>,
    per_key: usize,
) -> Vec<Update<'a>> {
    let mut updates = Vec::new();
    for key in keys {
        let all: Vec<&str> = values[*key].0.iter().map(String::as_str).collect();
        updates.extend(chance.sample(&all, per_key).into_iter().map(|value| (*key, value)));
    }
    chance.shuffle(&mut updates);
    updates
}

fn item(
    question: usize,
    asked: &str,
    updates: &[Update<'_>],
    (per_key, condition): (usize, &str),
) -> Item {
    let is_last = |at: usize| updates[at + 1..].iter().all(|later| later.0 != updates[at].0);
    let mut fragments: Vec<_> = updates
        .iter()
        .enumerate()
        .filter(|(at, _)| condition != "dropped" || is_last(*at))
        .map(|(_, (key, value))| Fragment::passage(format!("{key}: {value}\n")))
        .collect();
    let last = updates.iter().rposition(|update| update.0 == asked).expect("it is updated");
    if condition == "told to forget" {
        let advice = "Forget all values given so far. Only what follows counts.\n";
        fragments.insert(last, Fragment::passage(advice));
    }
    let group = format!("{per_key} updates, {condition}");
    Item {
        id: format!("{question}/{group}"),
        question,
        group,
        root: None,
        fragments,
        tail: ask::from_documents(&format!("Which is the last value given for \"{asked}\"?")),
        answers: vec![updates[last].1.to_owned()],
        reading: Reading::Line,
        max_tokens: ask::SHORT_ANSWER_TOKENS,
    }
}

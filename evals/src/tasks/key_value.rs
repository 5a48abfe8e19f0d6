//! Key-value retrieval: records of random keys and values, cut into fragments; one value is asked
//! for. Made from a seed, or of the files of Liu et al. (2023), "Lost in the Middle".
//!
//! Unforgiving to errors of position and of sinks. What would fool it: nothing but copying the
//! right digits.

use super::{Making, Task, ask, third};
use crate::item::{Fragment, Item, Reading};
use serde::Deserialize;

pub(super) const KEY_VALUE: Task = Task {
    name: "key-value",
    about: "one of many random values by its key, five records a fragment",
    fragments: Some([8, 1, 64]),
    files: &[],
    make: |making| Ok(made(making)),
};

pub(super) const KV_75: Task = Task {
    name: "kv-75",
    about: "Lost in the Middle's retrieval among 75 records, five a fragment",
    fragments: None,
    files: &["kv-retrieval-75_keys.dev.jsonl"],
    make: |making| of_file(making, KV_75.files[0]),
};

pub(super) const KV_140: Task = Task {
    name: "kv-140",
    about: "the same among 140 records",
    fragments: None,
    files: &["kv-retrieval-140_keys.dev.jsonl"],
    make: |making| of_file(making, KV_140.files[0]),
};

const RECORDS_PER_FRAGMENT: usize = 5;

/// A line of the files.
#[derive(Deserialize)]
#[serde(try_from = "Given")]
struct Record {
    pairs: Vec<(String, String)>,
    /// The one asked for.
    at: usize,
}

#[derive(Deserialize)]
struct Given {
    ordered_kv_records: Vec<(String, String)>,
    key: String,
    value: String,
}

impl TryFrom<Given> for Record {
    type Error = String;

    fn try_from(given: Given) -> Result<Self, String> {
        let Given { ordered_kv_records: pairs, key, value } = given;
        let Some(at) = pairs.iter().position(|pair| pair.0 == key) else {
            return Err(format!("key {key:?} is in none of the {} records", pairs.len()));
        };
        if pairs[at].1 != value {
            return Err(format!("the record of key {key:?} has another value than `value`"));
        }
        Ok(Self { pairs, at })
    }
}

fn made(making: &Making) -> Vec<Item> {
    let mut chance = making.chance("key-value");
    let count = making.fragments * RECORDS_PER_FRAGMENT;
    let item = |question| {
        let mut digits = || (chance.hex(8), chance.hex(8));
        let pairs = (0..count).map(|_| digits()).collect();
        let record = Record { pairs, at: chance.below(count) };
        item(question, question, &record)
    };
    (0..making.n).map(item).collect()
}

fn of_file(making: &Making, name: &str) -> anyhow::Result<Vec<Item>> {
    let records: Vec<Record> = making.open(name)?.json_lines()?;
    let drawn = making.draw(&records)?.into_iter().enumerate();
    Ok(drawn.map(|(question, (place, record))| item(question, place, record)).collect())
}

fn item(question: usize, id: usize, record: &Record) -> Item {
    let line = |(key, value): &(String, String)| format!("\"{key}\": \"{value}\"\n");
    let fragments = record.pairs.chunks(RECORDS_PER_FRAGMENT);
    let fragments =
        fragments.map(|pairs| Fragment::passage(pairs.iter().map(line).collect::<String>()));
    let (key, value) = &record.pairs[record.at];
    Item {
        id: id.to_string(),
        question,
        group: third(record.at, record.pairs.len()),
        root: None,
        fragments: fragments.collect(),
        tail: ask::from_documents(&format!("Which value has the key \"{key}\"?")),
        answers: vec![value.clone()],
        reading: Reading::Line,
        max_tokens: 48,
    }
}

//! GSM8K (Cobbe et al., 2021): worked word problems, each a fragment, then one to work out. What is
//! scored is the last number; likelihoods are of the whole worked answer.
//!
//! Shots and questions are different items. What would fool it: small models work out next to
//! nothing, whatever the shots; likelihood and KL then still compare arms.

use super::{Making, Task};
use crate::item::{Fragment, Item, Reading, Tail};
use anyhow::ensure;
use serde::Deserialize;

pub(super) const GSM8K: Task = Task {
    name: "gsm8k",
    about: "GSM8K: a word problem after worked ones, each worked one a fragment",
    fragments: Some([5, 1, 50]),
    files: &["gsm8k_test.dev.jsonl"],
    make,
};

#[derive(Deserialize)]
#[serde(try_from = "Given")]
struct Record {
    question: String,
    worked: String,
    number: String,
}

#[derive(Deserialize)]
struct Given {
    question: String,
    answer: String,
}

impl TryFrom<Given> for Record {
    type Error = String;

    fn try_from(given: Given) -> Result<Self, String> {
        let Given { question, answer } = given;
        let number = answer.rsplit_once("####").map(|(_, number)| Reading::Number.read(number));
        let Some(number) = number.filter(|number| !number.is_empty()) else {
            return Err("`answer` does not end in #### and a number".to_owned());
        };
        Ok(Self { question, worked: without_calculator(&answer), number })
    }
}

/// Takes out what stands between `<<` and `>>`: notes to a calculator.
fn without_calculator(answer: &str) -> String {
    let mut pieces = answer.split("<<");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces
        .fold(first, |text, piece| text + piece.split_once(">>").map_or(piece, |(_, after)| after))
}

fn make(making: &Making) -> anyhow::Result<Vec<Item>> {
    let records: Vec<Record> = making.open(GSM8K.files[0])?.json_lines()?;
    let (most, shots) = (records.len(), making.fragments);
    let given = making.n + shots;
    ensure!(given <= most, "--n and --fragments make {given} problems; the file has {most}");
    let places = making.chance("questions").distinct(most, most);
    let (asked, spare) = places.split_at(making.n);
    let mut chance = making.chance("shots");
    let item = |(question, &id): (usize, &usize)| {
        let record = &records[id];
        let fragments = chance.sample(spare, shots).into_iter().map(|place| {
            let Record { question, worked, .. } = &records[place];
            Fragment::passage(format!("Question: {question}\nAnswer: {worked}\n\n"))
        });
        let fragments = fragments.collect();
        let user = format!(
            "Work this out as the questions above are worked out, and end with #### and the \
             number.\n\nQuestion: {}",
            record.question
        );
        Item {
            id: id.to_string(),
            question,
            group: String::new(),
            root: None,
            fragments,
            tail: Tail { user, begin: "Answer:".to_owned() },
            answers: vec![record.worked.clone(), record.number.clone()],
            reading: Reading::Number,
            max_tokens: 256,
        }
    };
    Ok(asked.iter().enumerate().map(item).collect())
}

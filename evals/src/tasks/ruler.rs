//! RULER's niah_multikey_3 (Hsieh et al., 2024): lines that give each of about fifty random keys a
//! random value, cut into fragments of five lines; one value is asked for.
//!
//! Every line is a needle of the same form, so nothing but the key finds it.

use super::{Making, Task, third};
use crate::item::{Fragment, Item, Reading, Tail};
use serde::Deserialize;

pub(super) const RULER: Task = Task {
    name: "ruler-multikey",
    about: "RULER niah_multikey_3: one of about fifty random values, five lines a fragment",
    fragments: None,
    files: &["niah_multikey_3.dev.jsonl"],
    make,
};

const LINES_PER_FRAGMENT: usize = 5;

#[derive(Deserialize)]
#[serde(try_from = "Given")]
struct Record {
    index: usize,
    /// What is said before the lines.
    opening: String,
    lines: Vec<String>,
    question: String,
    /// How the answer begins.
    begin: String,
    answer: String,
    /// The line that tells.
    at: usize,
}

#[derive(Deserialize)]
struct Given {
    index: usize,
    input: String,
    outputs: Vec<String>,
}

impl TryFrom<Given> for Record {
    type Error = String;

    fn try_from(given: Given) -> Result<Self, String> {
        let Given { index, input, outputs } = given;
        super::check_answers(&format!("item {index}"), &outputs)?;
        let wrong = |what: &str| format!("item {index}: {what}");
        let mut lines: Vec<&str> = input.lines().collect();
        let last = lines.pop().ok_or_else(|| wrong("`input` is empty"))?;
        let asks = last.split_once('?').ok_or_else(|| wrong("its last line asks nothing"))?;
        if lines.len() < 2 {
            return Err(wrong("`input` has no lines between its opening and its question"));
        }
        let opening = format!("{}\n", lines.remove(0));
        let answer = outputs[0].clone();
        let at = lines.iter().position(|line| line.contains(&answer));
        let at = at.ok_or_else(|| wrong("no line holds its answer"))?;
        Ok(Self {
            index,
            opening,
            lines: lines.into_iter().map(|line| format!("{line}\n")).collect(),
            question: format!("{}?", asks.0),
            begin: asks.1.trim().to_owned(),
            answer,
            at,
        })
    }
}

fn make(making: &Making) -> anyhow::Result<Vec<Item>> {
    let records: Vec<Record> = making.open(RULER.files[0])?.json_lines()?;
    let drawn = making.draw(&records)?.into_iter().enumerate();
    let item = |(question, (_, record)): (usize, (usize, &Record))| {
        let mut fragments: Vec<_> =
            record.lines.chunks(LINES_PER_FRAGMENT).map(<[String]>::concat).collect();
        fragments[0].insert_str(0, &record.opening);
        Item {
            id: record.index.to_string(),
            question,
            group: third(record.at, record.lines.len()),
            root: None,
            fragments: fragments.into_iter().map(Fragment::passage).collect(),
            tail: Tail { user: record.question.clone(), begin: record.begin.clone() },
            answers: vec![record.answer.clone()],
            reading: Reading::Line,
            max_tokens: 48,
        }
    };
    Ok(drawn.map(item).collect())
}

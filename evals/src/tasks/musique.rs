//! MuSiQue (Trivedi et al., 2022) as CacheBlend samples it: ten long passages, several needed.
//!
//! The answer does not stand literally in the passages of every question: compare arms, do not
//! read the level.

use super::{Making, Task, ask};
use crate::item::{Item, Reading};
use serde::Deserialize;

pub(super) const MUSIQUE: Task = Task {
    name: "musique",
    about: "MuSiQue: questions over several of ten long passages, each a fragment",
    fragments: None,
    files: &["musique_s.dev.json"],
    make,
};

#[derive(Deserialize)]
#[serde(try_from = "Given")]
struct Record(Given);

#[derive(Deserialize)]
struct Given {
    question: String,
    answers: Vec<String>,
    ctxs: Vec<Passage>,
}

#[derive(Deserialize)]
struct Passage {
    title: String,
    text: String,
}

impl TryFrom<Given> for Record {
    type Error = String;

    fn try_from(given: Given) -> Result<Self, String> {
        if given.ctxs.is_empty() {
            return Err("a question without passages".to_owned());
        }
        super::check_answers("a question", &given.answers)?;
        Ok(Self(given))
    }
}

fn make(making: &Making) -> anyhow::Result<Vec<Item>> {
    let records: Vec<Record> = making.open(MUSIQUE.files[0])?.json()?;
    let drawn = making.draw(&records)?.into_iter().enumerate();
    let item = |(question, (place, Record(record))): (usize, (usize, &Record))| Item {
        id: place.to_string(),
        question,
        group: String::new(),
        root: None,
        fragments: record.ctxs.iter().map(|p| ask::paragraph(&p.title, &p.text)).collect(),
        tail: ask::from_documents(&record.question),
        answers: record.answers.clone(),
        reading: Reading::Line,
        max_tokens: ask::SHORT_ANSWER_TOKENS,
    };
    Ok(drawn.map(item).collect())
}

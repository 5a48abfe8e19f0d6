//! Natural Questions (Kwiatkowski et al., 2019) as "Lost in the Middle" uses it: the passage that
//! tells stands first, in the middle and last among passages of other questions, in three items.
//!
//! A passage that is the same, or holds an answer, is no distractor. What would fool it: questions
//! that a model answers from memory.

use super::{Making, Task, ask};
use crate::{
    item::{Item, Reading},
    metrics::text::normalised,
};
use anyhow::ensure;
use serde::Deserialize;

pub(super) const NQ: Task = Task {
    name: "nq-open",
    about: "NQ-open: the gold passage first, in the middle and last among distractors",
    fragments: Some([10, 3, 100]),
    files: &["nq-open-oracle.dev.jsonl"],
    make,
};

#[derive(Deserialize)]
#[serde(try_from = "Given")]
struct Record {
    question: String,
    answers: Vec<String>,
    gold: Passage,
}

#[derive(Deserialize)]
struct Given {
    question: String,
    answers: Vec<String>,
    ctxs: Vec<Passage>,
}

#[derive(Clone, Deserialize)]
struct Passage {
    title: String,
    text: String,
    isgold: bool,
}

impl TryFrom<Given> for Record {
    type Error = String;

    fn try_from(given: Given) -> Result<Self, String> {
        let Given { question, answers, ctxs } = given;
        super::check_answers("a question", &answers)?;
        let gold = ctxs.into_iter().find(|passage| passage.isgold);
        let gold = gold.ok_or("none of the passages is gold")?;
        Ok(Self { question, answers, gold })
    }
}

fn make(making: &Making) -> anyhow::Result<Vec<Item>> {
    let records: Vec<Record> = making.open(NQ.files[0])?.json_lines()?;
    let mut chance = making.chance("distractors");
    let count = making.fragments;
    let mut items = Vec::new();
    for (question, (id, record)) in making.draw(&records)?.into_iter().enumerate() {
        let answers: Vec<_> = record.answers.iter().map(|answer| normalised(answer)).collect();
        let mut others: Vec<&Passage> = Vec::new();
        for place in chance.distinct(records.len(), records.len()) {
            let other = &records[place].gold;
            let text = normalised(&format!("{} {}", other.title, other.text));
            let tells = answers.iter().any(|answer| text.contains(answer));
            let is_new = others.iter().all(|known| known.text != other.text);
            if !tells && is_new && other.text != record.gold.text {
                others.push(other);
            }
            if others.len() == count - 1 {
                break;
            }
        }
        let found = others.len();
        ensure!(found == count - 1, "question {id}: only {found} passages hold no answer to it");
        for gold_at in [0, count / 2, count - 1] {
            let group = format!("gold {} of {count}", gold_at + 1);
            let mut passages = others.clone();
            passages.insert(gold_at, &record.gold);
            items.push(Item {
                id: format!("{id}/{group}"),
                question,
                group,
                root: None,
                fragments: passages.iter().map(|p| ask::paragraph(&p.title, &p.text)).collect(),
                tail: ask::from_documents(&record.question),
                answers: record.answers.clone(),
                reading: Reading::Line,
                max_tokens: ask::SHORT_ANSWER_TOKENS,
            });
        }
    }
    Ok(items)
}

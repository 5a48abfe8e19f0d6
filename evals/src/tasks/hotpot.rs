//! HotpotQA, distractor setting (Yang et al., 2018): ten paragraphs, two of which are needed.
//!
//! What would fool it: questions that a model answers from memory, or by yes or no.

use super::{Making, Task, ask};
use crate::item::{Item, Reading};
use serde::Deserialize;

pub(super) const HOTPOT: Task = Task {
    name: "hotpotqa",
    about: "HotpotQA: questions over two of ten paragraphs, each a fragment",
    fragments: None,
    files: &["hotpotqa_distractor.dev.json"],
    make,
};

#[derive(Deserialize)]
#[serde(try_from = "Given")]
struct Record {
    id: String,
    question: String,
    answer: String,
    kind: String,
    /// Title and text.
    paragraphs: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Given {
    id: String,
    question: String,
    answer: String,
    #[serde(rename = "type")]
    kind: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    title: Vec<String>,
    sentences: Vec<Vec<String>>,
}

impl TryFrom<Given> for Record {
    type Error = String;

    fn try_from(given: Given) -> Result<Self, String> {
        let Given { id, question, answer, kind, context } = given;
        let (titles, texts) = (context.title.len(), context.sentences.len());
        if titles != texts || titles == 0 {
            return Err(format!("question {id}: {titles} titles, but {texts} paragraphs"));
        }
        super::check_answer(&id, &answer)?;
        let texts = context.sentences.into_iter().map(|sentences| sentences.concat());
        let paragraphs = context.title.into_iter().zip(texts).collect();
        Ok(Self { id, question, answer, kind, paragraphs })
    }
}

fn make(making: &Making) -> anyhow::Result<Vec<Item>> {
    let records: Vec<Record> = making.open(HOTPOT.files[0])?.json()?;
    let drawn = making.draw(&records)?.into_iter().enumerate();
    let item = |(question, (_, record)): (usize, (usize, &Record))| Item {
        id: record.id.clone(),
        question,
        group: record.kind.clone(),
        root: None,
        fragments: record.paragraphs.iter().map(|(t, text)| ask::paragraph(t, text)).collect(),
        tail: ask::from_documents(&record.question),
        answers: vec![record.answer.clone()],
        reading: Reading::Line,
        max_tokens: ask::SHORT_ANSWER_TOKENS,
    };
    Ok(drawn.map(item).collect())
}

//! XQuAD in English (Artetxe et al., 2020; paragraphs of SQuAD): the paragraph that tells, among
//! paragraphs of other articles that hold no answer.
//!
//! The paragraph's place is drawn evenly. What would fool it: questions that a model answers from
//! memory.

use super::{Making, Task, ask, third};
use crate::{
    item::{Item, Reading},
    metrics::text::normalised,
};
use anyhow::ensure;
use serde::Deserialize;

pub(super) const XQUAD: Task = Task {
    name: "xquad-en",
    about: "XQuAD in English: the paragraph that tells among those of other articles",
    fragments: Some([10, 2, 40]),
    files: &["xquad.en.dev.json"],
    make,
};

#[derive(Deserialize)]
struct File {
    data: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    title: String,
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    qas: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(try_from = "Given")]
struct Record {
    id: String,
    question: String,
    answers: Vec<String>,
}

#[derive(Deserialize)]
struct Given {
    id: String,
    question: String,
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    text: String,
}

impl TryFrom<Given> for Record {
    type Error = String;

    fn try_from(given: Given) -> Result<Self, String> {
        let Given { id, question, answers } = given;
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.text).collect();
        super::check_answers(&format!("question {id}"), &answers)?;
        Ok(Self { id, question, answers })
    }
}

/// Articles have Wikipedia's titles, with underscores for spaces.
fn title(article: &Article) -> String {
    article.title.replace('_', " ")
}

fn make(making: &Making) -> anyhow::Result<Vec<Item>> {
    let file: File = making.open(XQUAD.files[0])?.json()?;
    let paragraphs: Vec<(usize, &Paragraph)> = file
        .data
        .iter()
        .enumerate()
        .flat_map(|(article, of)| of.paragraphs.iter().map(move |paragraph| (article, paragraph)))
        .collect();
    let questions: Vec<_> = paragraphs
        .iter()
        .flat_map(|gold| gold.1.qas.iter().map(move |asked| (gold, asked)))
        .collect();
    let mut chance = making.chance("distractors");
    let count = making.fragments;
    let mut items = Vec::new();
    for (question, (_, (gold, asked))) in making.draw(&questions)?.into_iter().enumerate() {
        let answers: Vec<_> = asked.answers.iter().map(|answer| normalised(answer)).collect();
        let is_distractor = |other: &&(usize, &Paragraph)| {
            let text = normalised(&other.1.context);
            other.0 != gold.0 && !answers.iter().any(|answer| text.contains(answer))
        };
        let mut chosen: Vec<_> = paragraphs.iter().filter(is_distractor).collect();
        let found = chosen.len();
        let id = &asked.id;
        ensure!(found >= count - 1, "question {id}: only {found} paragraphs hold no answer to it");
        chosen = chance.sample(&chosen, count - 1);
        let gold_at = chance.below(count);
        chosen.insert(gold_at, gold);
        let fragments = chosen.iter().map(|(article, paragraph)| {
            ask::paragraph(&title(&file.data[*article]), &paragraph.context)
        });
        items.push(Item {
            id: id.clone(),
            question,
            group: third(gold_at, count),
            root: None,
            fragments: fragments.collect(),
            tail: ask::from_documents(&asked.question),
            answers: asked.answers.clone(),
            reading: Reading::Line,
            max_tokens: ask::SHORT_ANSWER_TOKENS,
        });
    }
    Ok(items)
}

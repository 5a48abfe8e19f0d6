//! banking77 (Casanueva et al., 2020): customers' messages and their intents. Each shot is a
//! fragment; shots of ten intents, the right one among them, are drawn from the training file and
//! the message from the test file.
//!
//! What would fool it: intents' names tell much by themselves.

use super::{Making, Task, shots};
use crate::{
    data::DataFile,
    item::{Fragment, Item, Reading},
};
use anyhow::ensure;
use std::collections::BTreeMap;

pub(super) const BANKING: Task = Task {
    name: "banking77",
    about: "banking77: intents of customers' messages, one labelled message a fragment",
    fragments: Some([30, INTENTS, 150]),
    files: &["banking77_train.dev.csv", "banking77_test.dev.csv"],
    make,
};

/// Intents among the shots of an item.
const INTENTS: usize = 10;
/// Intents' names are a few words with underscores.
const LABEL_TOKENS: usize = 24;

fn open(making: &Making, name: &str) -> anyhow::Result<Vec<[String; 2]>> {
    let file: DataFile = making.open(name)?;
    file.csv(["text", "category"])
}

fn make(making: &Making) -> anyhow::Result<Vec<Item>> {
    let (train, test) = (open(making, BANKING.files[0])?, open(making, BANKING.files[1])?);
    let mut by_intent = BTreeMap::<&str, Vec<&str>>::new();
    for [text, intent] in &train {
        by_intent.entry(intent).or_default().push(text);
    }
    let per_intent = making.fragments.div_ceil(INTENTS);
    by_intent.retain(|_, texts| texts.len() >= per_intent);
    let intents: Vec<&str> = by_intent.keys().copied().collect();
    let known = intents.len();
    ensure!(
        known >= INTENTS,
        "{} has {known} intents of {per_intent} messages or more; {INTENTS} are needed",
        BANKING.files[0]
    );
    let mut chance = making.chance("shots");
    let mut items = Vec::new();
    for (question, (id, [message, right])) in making.draw(&test)?.into_iter().enumerate() {
        ensure!(
            by_intent.contains_key(right.as_str()),
            "{} has fewer than {per_intent} messages of intent {right:?}",
            BANKING.files[0]
        );
        let others: Vec<_> = intents.iter().copied().filter(|intent| intent != right).collect();
        let mut chosen = chance.sample(&others, INTENTS - 1);
        chosen.push(right);
        let mut shown = Vec::new();
        for intent in chosen {
            let texts = chance.sample(&by_intent[intent], per_intent);
            shown.extend(texts.into_iter().map(|text| (text, intent)));
        }
        chance.shuffle(&mut shown);
        // The right intent's shots stay when there are too many.
        shown.sort_by_key(|shot| shot.1 != right);
        shown.truncate(making.fragments);
        chance.shuffle(&mut shown);
        let fragments = shown.into_iter().map(|(text, intent)| {
            let text = text.trim();
            Fragment::passage(format!("Message: {text}\n{} {intent}\n\n", shots::LABEL))
        });
        items.push(Item {
            id: id.to_string(),
            question,
            group: String::new(),
            root: None,
            fragments: fragments.collect(),
            tail: shots::classify(message.trim()),
            answers: vec![right.clone()],
            reading: Reading::Line,
            max_tokens: LABEL_TOKENS,
        });
    }
    Ok(items)
}

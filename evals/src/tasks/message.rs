//! A message at position p among fragments: somebody says something in a turn of their own, log
//! entries stand before and behind it, and it is asked for. Does the model notice what is not
//! last?
//!
//! The same message stands at five positions, in five items. What would fool it: platforms of
//! other trains, which stand in the log.

use super::{Making, Task, ask, words};
use crate::{
    chance::Chance,
    item::{Fragment, Item, Reading},
};

pub(super) const MESSAGE: Task = Task {
    name: "message",
    about: "a user's message at five positions among log entries",
    fragments: Some([8, 4, 100]),
    files: &[],
    make: |making| {
        let mut chance = making.chance("message");
        Ok((0..making.n).flat_map(|question| make(making, question, &mut chance)).collect())
    },
};

/// Positions of the message: so many quarters of the log stand before it.
const QUARTERS: [usize; 5] = [0, 1, 2, 3, 4];

fn make(making: &Making, question: usize, chance: &mut Chance) -> Vec<Item> {
    let person = *chance.pick(words::PEOPLE);
    let platforms = words::numbers(chance, making.fragments);
    let log: Vec<_> = platforms[1..]
        .iter()
        .map(|platform| {
            let filler = words::filler(chance);
            Fragment::passage(format!("Log: {filler} A train left from platform {platform}.\n"))
        })
        .collect();
    let message = format!("This is {person}. My train leaves from platform {}.", platforms[0]);
    let message = Fragment { role: Some("user"), text: message };
    let item = |quarter: usize| {
        let group = format!("at {} %", quarter * 25);
        let mut fragments = log.clone();
        fragments.insert(log.len() * quarter / 4, message.clone());
        let wording = format!("From which platform does the train of {person} leave?");
        Item {
            id: format!("{question}/{group}"),
            question,
            group,
            root: None,
            fragments,
            tail: ask::from_documents(&wording),
            answers: vec![platforms[0].to_string()],
            reading: Reading::Line,
            max_tokens: ask::SHORT_ANSWER_TOKENS,
        }
    };
    QUARTERS.into_iter().map(item).collect()
}

//! Needles: each fragment tells one person's locker number; one is asked for, or three.
//!
//! What would fool it: a model that copies the nearest number. The place of the one asked for is
//! drawn evenly, and all fragments hold a number of the same form. `multi-needle` needs facts of
//! three fragments, but no link between them.

use super::{Making, Task, ask, third, words};
use crate::item::{Fragment, Item, Reading};

pub(super) const NEEDLE: Task = Task {
    name: "needle",
    about: "one of many numbers, each in a fragment of its own",
    fragments: Some([8, 1, words::PEOPLE.len()]),
    files: &[],
    make: |making| Ok(make(making, 1)),
};

pub(super) const MULTI_NEEDLE: Task = Task {
    name: "multi-needle",
    about: "three of many numbers, each in a fragment of its own",
    fragments: Some([8, 3, words::PEOPLE.len()]),
    files: &[],
    make: |making| Ok(make(making, 3)),
};

fn make(making: &Making, asked: usize) -> Vec<Item> {
    let mut chance = making.chance("needle");
    let item = |question| {
        let count = making.fragments;
        let people = chance.sample(words::PEOPLE, count);
        let numbers = words::numbers(&mut chance, count);
        let fragments = people.iter().zip(&numbers).map(|(person, number)| {
            let [before, after] = [words::filler(&mut chance), words::filler(&mut chance)];
            let fact = format!("The locker of {person} is number {number}.");
            Fragment::passage(format!("{before} {fact} {after}\n"))
        });
        let fragments = fragments.collect();
        let places = chance.distinct(asked, count);
        let names: Vec<_> = places.iter().map(|&place| people[place]).collect();
        let answer: Vec<_> = places.iter().map(|&place| numbers[place].to_string()).collect();
        let (wording, group) = match names[..] {
            [name] => (format!("Which number is the locker of {name}?"), third(places[0], count)),
            _ => (
                format!("Which numbers are the lockers of {}, in this order?", names.join(", ")),
                String::new(),
            ),
        };
        Item {
            id: format!("{question}"),
            question,
            group,
            root: None,
            fragments,
            tail: ask::from_documents(&wording),
            answers: vec![answer.join(", ")],
            reading: Reading::Line,
            max_tokens: ask::SHORT_ANSWER_TOKENS,
        }
    };
    (0..making.n).map(item).collect()
}

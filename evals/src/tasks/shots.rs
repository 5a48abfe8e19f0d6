//! Many-shot classification: each fragment is one labelled message; the labels are codes that mean
//! nothing, so that only the shots tell which is which.
//!
//! What would fool it: a model that repeats the nearest label; labels stand in random order, and
//! the message asked about has words no shot has in this combination. Chance is one in five.

use super::{Task, words};
use crate::{
    chance::Chance,
    item::{Fragment, Item, Reading, Tail},
};

pub(super) const SHOTS: Task = Task {
    name: "shots",
    about: "classification by made codes, one labelled message a fragment",
    fragments: Some([30, 5, 200]),
    files: &[],
    make: |making| {
        let mut chance = making.chance("shots");
        let item = |question| make(making.fragments, question, &mut chance);
        Ok((0..making.n).map(item).collect())
    },
};

/// Openings of messages about one matter each.
const MATTERS: [&[&str]; 5] = [
    &["I cannot open the door of", "The key does not turn at", "The lock is stuck at"],
    &["It is too cold in", "The heating is off in", "We freeze in"],
    &["Somebody plays loud music in", "There is too much noise in", "They shout all night in"],
    &["The lamp is broken in", "It is dark in", "There is no light in"],
    &["Water drips from the ceiling of", "The tap leaks in", "The floor is wet in"],
];
const PLACES: [&str; 8] = [
    "the office",
    "my flat",
    "the kitchen",
    "the hall",
    "room nine",
    "the garage",
    "the shop",
    "the library",
];
const CODES: [&str; 10] =
    ["blue", "iron", "oak", "salt", "moon", "rice", "wolf", "glass", "north", "silk"];

/// What comes before a label, in shots and in the tail.
pub(super) const LABEL: &str = "Label:";

fn make(count: usize, question: usize, chance: &mut Chance) -> Item {
    let codes = chance.sample(&CODES, MATTERS.len());
    let asked = chance.below(MATTERS.len());
    // The matter asked about is among the shots, however few there are.
    let mut matters: Vec<usize> = (0..count).map(|at| at % MATTERS.len()).collect();
    chance.shuffle(&mut matters);
    let (opening, place) = (*chance.pick(MATTERS[asked]), *chance.pick(&PLACES));
    let mut fragments = Vec::new();
    for matter in matters {
        let (mut with, mut of) = (*chance.pick(MATTERS[matter]), *chance.pick(&PLACES));
        while (with, of) == (opening, place) {
            (with, of) = (*chance.pick(MATTERS[matter]), *chance.pick(&PLACES));
        }
        let person = chance.pick(words::PEOPLE);
        let code = codes[matter];
        let shot = format!("Message: {with} {of}, {person}\n{LABEL} {code}\n\n");
        fragments.push(Fragment::passage(shot));
    }
    let person = chance.pick(words::PEOPLE);
    let message = format!("{opening} {place}, {person}");
    Item {
        id: format!("{question}"),
        question,
        group: String::new(),
        root: None,
        fragments,
        tail: classify(&message),
        answers: vec![codes[asked].to_owned()],
        reading: Reading::Line,
        max_tokens: 16,
    }
}

/// Asks for a message's label after the shots' example.
pub(super) fn classify(message: &str) -> Tail {
    let user = format!(
        "Label this message as the messages above are labelled. Give the label alone.\n\n\
         Message: {message}"
    );
    Tail { user, begin: LABEL.to_owned() }
}

//! Order-sensitive facts: people come in one after another, one fragment each, and nothing but the
//! fragments' order says when.
//!
//! What would fool it: a model that names anybody; chance is one in as many as there are people. A
//! policy that puts all fragments at the same positions cannot know the order.

use super::{Task, ask, third, words};
use crate::item::{Fragment, Item, Reading};

pub(super) const ORDER: Task = Task {
    name: "order",
    about: "who came right after whom, told by the fragments' order alone",
    fragments: Some([8, 2, words::PEOPLE.len()]),
    files: &[],
    make: |making| {
        let mut chance = making.chance("order");
        let item = |question| {
            let people = chance.sample(words::PEOPLE, making.fragments);
            let fragments = people.iter().map(|person| {
                let filler = words::filler(&mut chance);
                Fragment::passage(format!("Then {person} came in. {filler}\n"))
            });
            let fragments = fragments.collect();
            let place = chance.below(people.len() - 1);
            let asked = people[place];
            Item {
                id: format!("{question}"),
                question,
                group: third(place, people.len() - 1),
                root: None,
                fragments,
                tail: ask::from_documents(&format!("Who came in right after {asked}?")),
                answers: vec![people[place + 1].to_owned()],
                reading: Reading::Line,
                max_tokens: ask::SHORT_ANSWER_TOKENS,
            }
        };
        Ok((0..making.n).map(item).collect())
    },
};

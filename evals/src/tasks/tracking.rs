//! Variable tracking cut across fragments (after RULER's variable tracking): a box holds what
//! another box holds, and each link of the chain stands in a fragment of its own.
//!
//! This isolates missing cross-attention: no fragment alone tells the number. What would fool it: a
//! model that guesses the nearest number. Boxes outside the chain hold numbers too.

use super::{Making, Task, ask, words};
use crate::{
    chance::Chance,
    item::{Fragment, Item, Reading},
};

pub(super) const TRACKING: Task = Task {
    name: "tracking",
    about: "a value followed over 1 to 4 links, each link in a fragment of its own",
    fragments: Some([8, LINKS_MAX + 1, 40]),
    files: &[],
    make: |making| {
        let mut chance = making.chance("tracking");
        Ok((0..making.n).map(|question| make(making, question, &mut chance)).collect())
    },
};

const LINKS_MAX: usize = 4;

fn make(making: &Making, question: usize, chance: &mut Chance) -> Item {
    let (count, links) = (making.fragments, 1 + question % LINKS_MAX);
    let boxes = chance.distinct(count, 90).into_iter().map(|number| {
        let letter = char::from(b'A' + (number / 10) as u8);
        format!("{letter}{}", number % 10)
    });
    let boxes: Vec<_> = boxes.collect();
    let numbers = words::numbers(chance, count);
    let mut chain = chance.distinct(links + 1, count);
    chain.sort_unstable();
    let fragments = (0..count).map(|place| {
        let at = chain.iter().position(|&link| link == place);
        let name = &boxes[place];
        let fact = match at {
            Some(at) if at > 0 => {
                format!("Box {name} holds the same number as box {}.", boxes[chain[at - 1]])
            }
            _ => format!("Box {name} holds the number {}.", numbers[place]),
        };
        Fragment::passage(format!("{} {fact}\n", words::filler(chance)))
    });
    let fragments = fragments.collect();
    let asked = &boxes[chain[links]];
    Item {
        id: format!("{question}"),
        question,
        group: format!("{links} link{}", if links == 1 { "" } else { "s" }),
        root: None,
        fragments,
        tail: ask::from_documents(&format!("Which number does box {asked} hold?")),
        answers: vec![numbers[chain[0]].to_string()],
        reading: Reading::Line,
        max_tokens: ask::SHORT_ANSWER_TOKENS,
    }
}

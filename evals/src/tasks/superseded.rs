//! Conflicting and superseded facts: notices say where groups meet, later ones contradict earlier
//! ones, and the one with the highest number holds. Each question stands under two conditions: the
//! superseded notices kept, and dropped; at 1, 3 and 7 moves of each group.
//!
//! Dropped should stay flat with the number of moves, kept decays. What would fool it: a model
//! that takes the last notice of all; which group moved last is drawn.

use super::{Making, Task, ask, words};
use crate::{
    chance::Chance,
    item::{Fragment, Item, Reading},
};

pub(super) const SUPERSEDED: Task = Task {
    name: "superseded",
    about: "the newest of contradicting notices, the superseded ones kept or dropped",
    fragments: None,
    files: &[],
    make: |making| {
        let mut chance = making.chance("superseded");
        Ok((0..making.n).flat_map(|question| make(making, question, &mut chance)).collect())
    },
};

/// How often each group moves.
const MOVES: [usize; 3] = [1, 3, 7];
/// Groups that meet.
const GROUPS: usize = 4;

/// A group and its room.
type Notice = (&'static str, usize);

fn make(_: &Making, question: usize, chance: &mut Chance) -> Vec<Item> {
    let groups = chance.sample(words::GROUPS, GROUPS);
    let asked = *chance.pick(&groups);
    let item = |(moves, keeps, notices): (usize, bool, &[Notice])| {
        let holds = |at: usize| notices[at + 1..].iter().all(|later| later.0 != notices[at].0);
        let fragments = notices.iter().enumerate().filter(|(at, _)| keeps || holds(*at));
        let fragments = fragments.map(|(at, (group, room))| {
            Fragment::passage(format!("Notice {}: the {group} meets in room {room}.\n", at + 1))
        });
        let room = notices.iter().rev().find(|notice| notice.0 == asked).expect("it meets").1;
        let group = format!("{moves} moves, {}", if keeps { "kept" } else { "dropped" });
        let wording = format!(
            "A notice with a higher number replaces earlier ones. In which room does the {asked} \
             meet now?"
        );
        Item {
            id: format!("{question}/{group}"),
            question,
            group,
            root: None,
            fragments: fragments.collect(),
            tail: ask::from_documents(&wording),
            answers: vec![room.to_string()],
            reading: Reading::Line,
            max_tokens: ask::SHORT_ANSWER_TOKENS,
        }
    };
    let mut items = Vec::new();
    for moves in MOVES {
        let rooms = words::numbers(chance, GROUPS * (moves + 1));
        let mut notices: Vec<Notice> =
            rooms.iter().enumerate().map(|(at, &room)| (groups[at % GROUPS], room)).collect();
        chance.shuffle(&mut notices);
        items.extend([true, false].map(|keeps| item((moves, keeps, &notices))));
    }
    items
}

//! Words that made texts are put together from.

use crate::chance::Chance;

/// Names of people, no two with the same beginning.
pub(crate) const PEOPLE: &[&str] = &[
    "Anna", "Boris", "Clara", "David", "Elena", "Felix", "Greta", "Henry", "Irene", "Jonas",
    "Karla", "Louis", "Maria", "Nils", "Olga", "Peter", "Quentin", "Rosa", "Simon", "Tilda", "Ugo",
    "Vera", "Walter", "Xenia", "Yusuf", "Zoe",
];

/// Groups that meet.
pub(super) const GROUPS: &[&str] =
    &["choir", "chess club", "book circle", "dance class", "parents' council", "theatre group"];

const WHO: &[&str] = &["The caretaker", "A visitor", "One of the clerks", "The gardener"];
const DID: &[&str] = &["swept", "painted", "measured", "photographed", "locked", "aired"];
const WHAT: &[&str] = &["the stairs", "the hall", "the cellar", "the attic", "the yard"];
const WHEN: &[&str] = &["before noon", "on Tuesday", "after the rain", "in the evening", "twice"];

/// A sentence about nothing that is asked for, without a number.
pub(crate) fn filler(chance: &mut Chance) -> String {
    let [who, did, what, when] = [WHO, DID, WHAT, WHEN].map(|words| *chance.pick(words));
    format!("{who} {did} {what} {when}.")
}

/// `count` numbers of four digits, all different.
pub(super) fn numbers(chance: &mut Chance, count: usize) -> Vec<usize> {
    chance.distinct(count, 9000).into_iter().map(|number| 1000 + number).collect()
}

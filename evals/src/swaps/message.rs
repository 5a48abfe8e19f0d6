//! Messages in a feed: one more arrives at each change, and its code word is to be told.
//!
//! The feed keeps what came before, a piece for each message, so only the new one is encoded. What
//! would fool it: code words of older messages, which stand there too.

use super::story::Story;
use crate::{chance::Chance, tasks::words};

pub(super) const NAME: &str = "message";

/// None is part of another.
const CODE_WORDS: [&str; 16] = [
    "amber", "birch", "cobalt", "dune", "ember", "fjord", "garnet", "harbor", "indigo", "juniper",
    "kettle", "lantern", "marble", "nectar", "pebble", "velvet",
];

/// Changes that there are words for.
pub(super) const CHANGES_MAX: usize = CODE_WORDS.len() - 1;

const USER: &str = "Messages arrive above while you write. Write down the code word of each message, \
                    one line for each, in the order in which they arrive.";

/// Stories of so many changes.
pub(crate) fn stories(seed: u64, n: usize, changes: usize) -> Vec<Story> {
    let mut chance = Chance::new(seed, "swaps: message");
    (0..n).map(|question| story(&mut chance, question, changes)).collect()
}

fn story(chance: &mut Chance, question: usize, changes: usize) -> Story {
    let fillers = super::fillers(chance);
    let values = chance.sample(&CODE_WORDS, changes + 1);
    let people = chance.sample(words::PEOPLE, changes + 1);
    let message = |(word, person): (&&str, &&str)| {
        format!("Message from {person}: the code word is {word}.\n")
    };
    let messages: Vec<String> = values.iter().zip(&people).map(message).collect();
    Story {
        task: NAME,
        question,
        fillers,
        versions: (1..=messages.len()).map(|count| messages[..count].to_vec()).collect(),
        user: USER.to_owned(),
        leads: (1..=people.len())
            .map(|count| format!("Message {count}, the code word is"))
            .collect(),
        values: values.iter().map(|&word| word.to_owned()).collect(),
        doorbell: "[A new message has arrived.]\n",
    }
}

#[cfg(test)]
mod tests {
    use super::{CHANGES_MAX, CODE_WORDS, stories};

    #[test]
    fn no_code_word_is_part_of_another() {
        for word in CODE_WORDS {
            assert_eq!(CODE_WORDS.iter().filter(|other| other.contains(word)).count(), 1, "{word}");
        }
    }

    #[test]
    fn the_last_message_has_the_value_and_only_it_is_new() {
        for story in stories(2, 20, CHANGES_MAX) {
            for (version, pieces) in story.versions.iter().enumerate() {
                let (last, before) = pieces.split_last().unwrap();
                assert!(last.contains(&story.values[version]), "{last}");
                assert_eq!(before, story.versions[..version].last().map_or(&[][..], |v| v));
                assert!(!before.concat().contains(&story.values[version]));
            }
        }
    }

    #[test]
    fn a_seed_makes_the_same_stories() {
        assert_eq!(stories(1, 3, 2), stories(1, 3, 2));
        assert_ne!(stories(1, 3, 2), stories(2, 3, 2));
    }
}

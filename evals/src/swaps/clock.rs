//! The clock: what time is it, again and again, while the clock goes on.
//!
//! It jumps by a drawn number of minutes, so that no answer so far tells the next. What would fool
//! it: a model that goes on counting from its last line; that is neither the new time nor an old one.

use super::story::Story;
use crate::chance::Chance;

pub(super) const NAME: &str = "clock";

/// Minutes that a clock jumps by at most; two neighbouring minutes are too easily guessed.
const JUMP: [usize; 2] = [5, 59];
/// Days of a week, from that of 31 August 2026.
const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

const USER: &str = "The clock above goes on while you write. At each check, write down what it shows \
                    then, as HH:MM, one line for each check.";

/// Stories of so many changes.
pub(crate) fn stories(seed: u64, n: usize, changes: usize) -> Vec<Story> {
    let mut chance = Chance::new(seed, "swaps: clock");
    (0..n).map(|question| story(&mut chance, question, changes)).collect()
}

fn story(chance: &mut Chance, question: usize, changes: usize) -> Story {
    let fillers = super::fillers(chance);
    let day = 1 + chance.below(30);
    let latest = 24 * 60 - changes * JUMP[1];
    let mut minutes = vec![chance.below(latest)];
    for change in 0..changes {
        minutes.push(minutes[change] + JUMP[0] + chance.below(JUMP[1] - JUMP[0] + 1));
    }
    let version = |&minute: &usize| vec![written(day, minute, chance.below(60))];
    Story {
        task: NAME,
        question,
        fillers,
        versions: minutes.iter().map(version).collect(),
        user: USER.to_owned(),
        leads: (1..=minutes.len()).map(|check| format!("Check {check}, the clock shows")).collect(),
        values: minutes.iter().map(|&minute| shown(minute)).collect(),
        doorbell: "[The clock has changed.]\n",
    }
}

/// A minute of a day in September 2026, as the server's clock writes it.
fn written(day: usize, minute: usize, second: usize) -> String {
    let name = DAYS[day % DAYS.len()];
    format!("It is {name}, {day:02} September 2026, {}:{second:02} UTC.\n", shown(minute))
}

fn shown(minute: usize) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use super::{stories, written};
    use cento::side::Clock;
    use std::time::Duration;

    #[test]
    fn it_is_written_as_the_server_writes_it() {
        let server = Clock::new(Clock::TEMPLATE, None, 1.0).unwrap();
        let first = 1_788_220_800;
        for (day, minute, second) in [(1, 0, 0), (21, 853, 20), (30, 1439, 59)] {
            let passed = ((day - 1) * 24 * 60 + minute) * 60 + second;
            let at = Duration::from_secs(first + passed as u64);
            assert_eq!(written(day, minute, second), server.write(at).unwrap());
        }
    }

    #[test]
    fn every_version_shows_its_value_and_no_other() {
        for story in stories(1, 20, 3) {
            assert_eq!((story.versions.len(), story.values.len(), story.leads.len()), (4, 4, 4));
            assert!(story.values.is_sorted_by(|a, b| a < b), "within a day: {:?}", story.values);
            for (version, pieces) in story.versions.iter().enumerate() {
                let text = pieces.concat();
                for (of, value) in story.values.iter().enumerate() {
                    assert_eq!(text.contains(&format!(" {value}:")), of == version, "{text}");
                }
            }
            assert!(story.values.iter().all(|value| !story.doorbell.contains(value)));
        }
    }

    #[test]
    fn a_seed_makes_the_same_stories() {
        assert_eq!(stories(1, 3, 2), stories(1, 3, 2));
        assert_ne!(stories(1, 3, 2), stories(2, 3, 2));
        assert_eq!(stories(1, 3, 2)[..2], stories(1, 2, 2));
    }
}

//! A story: a side context that changes while an answer is written, and what the answer should say
//! of each version of it. Plain data that every task makes.

use serde::{Deserialize, Serialize};

/// One story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Story {
    /// Its task.
    pub(crate) task: &'static str,
    /// Stories of all tasks with one number are one draw in intervals of their task.
    pub(crate) question: usize,
    /// Passages about nothing that is asked for.
    pub(crate) fillers: Vec<String>,
    /// The side context's versions, each of one piece or more; a piece is a fragment.
    pub(crate) versions: Vec<Vec<String>>,
    /// The user's turn.
    pub(crate) user: String,
    /// What the answer's line about each version begins with.
    pub(crate) leads: Vec<String>,
    /// What it should say then.
    pub(crate) values: Vec<String>,
    /// A line that tells of a change, and not what it is.
    pub(crate) doorbell: &'static str,
}

/// What was said of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// Its value.
    New,
    /// That of a version before.
    Old,
    /// Neither.
    Other,
}

impl Story {
    /// Unlike that of any other story of the run.
    pub(crate) fn id(&self) -> String {
        format!("{}/{}", self.task, self.question)
    }

    /// What a text says of a version: in its first line, the value that is named first.
    pub(crate) fn said(&self, text: &str, version: usize) -> Said {
        let line = text.trim_start().lines().next().unwrap_or_default().to_lowercase();
        let named = self.values[..=version].iter().enumerate();
        let named = named.filter_map(|(at, value)| Some((line.find(&value.to_lowercase())?, at)));
        match named.min() {
            Some((_, at)) if at == version => Said::New,
            Some(_) => Said::Old,
            None => Said::Other,
        }
    }

    /// Changes of the side context.
    pub(crate) fn changes(&self) -> usize {
        self.versions.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::Said;

    #[test]
    fn the_value_named_first_is_what_was_said() {
        let story = &crate::swaps::clock::stories(1, 1, 2)[0];
        let [first, second, third] = &story.values[..] else { panic!("three versions") };
        for (text, version, said) in [
            (format!(" {second}\n"), 1, Said::New),
            (format!("\n {second}:07 UTC"), 1, Said::New),
            (format!("{second} (it was {first})"), 1, Said::New),
            (format!("{first}, then {second}"), 1, Said::Old),
            (first.clone(), 2, Said::Old),
            (third.clone(), 1, Said::Other),
            (format!("nothing\n{second}"), 1, Said::Other),
            (String::new(), 1, Said::Other),
        ] {
            assert_eq!(story.said(&text, version), said, "{text:?}");
        }
    }
}

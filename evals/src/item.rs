//! An item: one question over fragments, with its right answers. Plain data that every task makes.

/// One question over fragments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Unlike that of any other item of the task and seed.
    pub(crate) id: String,
    /// Items made of one question (the same facts at another place) count as one draw in intervals.
    pub(crate) question: usize,
    /// The condition it stands for within its task (a place, a number of updates); may be empty.
    pub(crate) group: String,
    /// Text of a system turn; none is the model's default root.
    pub(crate) root: Option<String>,
    pub(crate) fragments: Vec<Fragment>,
    pub(crate) tail: Tail,
    /// Right answers; the first is the one whose likelihood is measured.
    pub(crate) answers: Vec<String>,
    /// What of the model's text is its answer.
    pub(crate) reading: Reading,
    /// Tokens the model may take for it.
    pub(crate) max_tokens: usize,
}

/// One fragment's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// With a role it is a turn of its own.
    pub(crate) role: Option<&'static str>,
    pub(crate) text: String,
}

impl Fragment {
    /// A passage.
    pub(crate) fn passage(text: impl Into<String>) -> Self {
        Self { role: None, text: text.into() }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The user's turn.
    pub(crate) user: String,
    /// Words that the model's answer is made to begin with; may be empty.
    pub(crate) begin: String,
}

/// What of the model's text is its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Its first line that is not blank.
    Line,
    /// The number after `####`, or the last number.
    Number,
}

impl Reading {
    /// The answer in `text`; empty where there is none.
    pub(crate) fn read(self, text: &str) -> String {
        match self {
            Self::Line => {
                let line = text.lines().map(str::trim).find(|line| !line.is_empty());
                line.unwrap_or_default().to_owned()
            }
            Self::Number => {
                let marked = text.rsplit_once("####").map_or(text, |(_, after)| after);
                let of = |text: &str| numbers(text).next();
                // What follows a mark comes first; without one, what is said last.
                let found = if marked.len() < text.len() { of(marked) } else { None };
                found.or_else(|| numbers(text).last()).unwrap_or_default()
            }
        }
    }
}

/// Numbers in a text, without thousands' commas and without a fraction of zeros.
fn numbers(text: &str) -> impl Iterator<Item = String> {
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '-');
    text.split(move |c| !is_number(c)).filter_map(|word| {
        let word = word.replace(',', "");
        let word = word.trim_end_matches(['.', '-']);
        let digits = word.trim_start_matches('-');
        let sign = if word.len() > digits.len() { "-" } else { "" };
        let value: f64 = digits.parse().ok()?;
        let is_whole = value.fract() == 0.0 && value < 1e15;
        let shown = if is_whole { format!("{value:.0}") } else { digits.to_owned() };
        Some(format!("{sign}{shown}"))
    })
}

#[cfg(test)]
mod tests {
    use super::Reading;

    #[test]
    fn the_first_line_is_the_answer() {
        for (text, answer) in
            [("", ""), ("\n  Paris \nbecause", "Paris"), ("Paris", "Paris"), (" \n\t\n", "")]
        {
            assert_eq!(Reading::Line.read(text), answer);
        }
    }

    #[test]
    fn numbers_are_found() {
        for (text, answer) in [
            ("", ""),
            ("none", ""),
            ("3 + 4 = 7 apples.", "7"),
            ("So 12 of 20.\n#### 1,250\nand 3 more", "1250"),
            ("costs $18.00", "18"),
            ("it is 2.5, I think", "2.5"),
            ("minus: -4.", "-4"),
            ("#### none, though 6", "6"),
            ("1-2-3", ""),
        ] {
            assert_eq!(Reading::Number.read(text), answer, "{text:?}");
        }
    }
}

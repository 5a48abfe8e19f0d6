//! An inbox: what waits in a mailbox, a line for each message, never a body.

use crate::limits::{INBOX_LINES_DEFAULT, SIDE_ENTRIES_MAX};
use std::{collections::VecDeque, fmt::Write as _, time::Duration};

/// Messages that wait.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    waiting: VecDeque<Message>,
    /// Goes up with whatever changes its text.
    revision: u64,
    /// The revision that its text shows.
    shown: Option<u64>,
    /// What came and went since.
    unshown: Unshown,
}

/// What an inbox's text does not show yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unshown {
    /// Numbers of messages that came.
    pub(crate) added: Vec<u64>,
    /// Numbers of messages that were taken away.
    pub(crate) removed: Vec<u64>,
}

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Number within its inbox.
    pub number: u64,
    /// When it came, since the Unix epoch.
    pub at: Duration,
    /// Who sent it.
    pub from: Option<String>,
    /// What it is about, in a line.
    pub gist: String,
    /// The id by which it is pulled in.
    pub id: Option<String>,
}

/// It holds as many messages as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Inbox {
    /// Adds a message.
    ///
    /// # Errors
    /// [`SIDE_ENTRIES_MAX`] wait: none of them may go unread, so none rolls off.
    pub fn add(&mut self, message: Message) -> Result<(), Full> {
        if self.waiting.len() >= SIDE_ENTRIES_MAX {
            return Err(Full);
        }
        self.unshown.added.push(message.number);
        self.waiting.push_back(message);
        self.touch();
        Ok(())
    }

    /// Takes away a message that was read; false when there is none of that number.
    pub fn take(&mut self, number: u64) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|message| message.number != number);
        let is_taken = self.waiting.len() < before;
        if is_taken {
            self.unshown.removed.push(number);
            self.touch();
        }
        is_taken
    }

    /// Messages that wait, the newest last.
    pub fn waiting(&self) -> impl ExactSizeIterator<Item = &Message> {
        self.waiting.iter()
    }

    /// Its text is to be written anew.
    pub fn touch(&mut self) {
        self.revision += 1;
    }

    /// Its text does not show what it holds.
    pub(crate) fn is_stale(&self) -> bool {
        self.shown != Some(self.revision)
    }

    /// It is what it was: a text written of `before` shows it, and nobody else wrote one.
    pub(crate) fn is_still(&self, before: &Self) -> bool {
        self.revision == before.revision && self.is_stale()
    }

    /// Its text shows what it holds; returns what that brought.
    pub(crate) fn show(&mut self) -> Unshown {
        self.shown = Some(self.revision);
        std::mem::take(&mut self.unshown)
    }

    /// Its text: how many wait, then a line for each of the newest `lines`.
    pub(crate) fn write(&self, lines: Option<usize>) -> String {
        let count = self.waiting.len();
        let mut text = match count {
            0 => return "Inbox: nothing waits.\n".to_owned(),
            1 => "Inbox: 1 message waits.\n".to_owned(),
            _ => format!("Inbox: {count} messages wait.\n"),
        };
        let earlier = count.saturating_sub(lines.unwrap_or(INBOX_LINES_DEFAULT));
        if earlier > 0 {
            writeln!(text, "(and {earlier} earlier)").expect("a String takes all");
        }
        for message in self.waiting.iter().skip(earlier) {
            text.push_str(&message.line());
        }
        text
    }
}

impl Message {
    fn line(&self) -> String {
        let from = self.from.as_deref().map(|from| format!(" from {}", one_line(from)));
        let id = self.id.as_deref().map(|id| format!(" [{}]", one_line(id)));
        let (from, id) = (from.unwrap_or_default(), id.unwrap_or_default());
        format!("#{}{from}: {}{id}\n", self.number, one_line(&self.gist))
    }
}

/// No message can look like two.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;

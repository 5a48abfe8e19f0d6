//! An answer's text: tokens to characters, and what is held back for stop strings.
//!
//! Text is emitted as soon as it can no longer be the beginning of a stop string; a stop string
//! itself is never emitted.

use models::{TextStream, TokenId, Tokenizer};
use std::sync::Arc;

/// The text of one answer.
pub(crate) struct Text {
    stream: Option<TextStream>,
    stops: Stops,
}

impl Text {
    /// Without a tokenizer all text is empty.
    pub(crate) fn new(tokenizer: Option<Arc<Tokenizer>>, stop_strings: &[String]) -> Self {
        let stops = Stops { strings: stop_strings.to_vec(), held: String::new(), stopped: false };
        Self { stream: tokenizer.map(TextStream::continuing), stops }
    }

    /// Text that `token` releases. Nothing after a stop string.
    pub(crate) fn push(&mut self, token: TokenId) -> String {
        let text = self.stream.as_mut().map_or_else(String::new, |stream| stream.push(token));
        self.stops.push(&text)
    }

    /// A stop string has come.
    pub(crate) fn stopped(&self) -> bool {
        self.stops.stopped
    }

    /// What is still held back, at the end.
    pub(crate) fn finish(&mut self) -> String {
        let rest = self.stream.as_mut().map_or_else(String::new, TextStream::finish);
        let mut text = self.stops.push(&rest);
        text.push_str(&std::mem::take(&mut self.stops.held));
        text
    }
}

/// Looks for stop strings in a stream of text.
struct Stops {
    strings: Vec<String>,
    held: String,
    stopped: bool,
}

impl Stops {
    /// Text that is certain to stand before any stop string.
    fn push(&mut self, text: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(text);
        if let Some(at) = self.strings.iter().filter_map(|s| self.held.find(s.as_str())).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let certain = self.held.len() - self.begun();
        let rest = self.held.split_off(certain);
        std::mem::replace(&mut self.held, rest)
    }

    /// Bytes at the end of what is held that could begin a stop string.
    fn begun(&self) -> usize {
        let begins = |s: &String| {
            let longest = self.held.len().min(s.len() - 1);
            (1..=longest)
                .rev()
                .find(|&n| self.held.as_bytes().ends_with(&s.as_bytes()[..n]))
                .unwrap_or(0)
        };
        self.strings.iter().map(begins).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;

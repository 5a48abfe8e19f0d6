//! Streaming detokenization.

use super::{Tokenizer, without_space};
use crate::TokenId;
use std::sync::Arc;

/// Streaming detokenization: never splits a UTF-8 character.
///
/// All that [`push`](Self::push) and [`finish`](Self::finish) return, put together, is what
/// [`Tokenizer::decode`] gives for the same tokens at once.
#[derive(Debug)]
pub struct TextStream {
    tokenizer: Arc<Tokenizer>,
    /// Bytes of a character that is not complete.
    pending: Vec<u8>,
    /// No text came yet, and the vocabulary puts a space in front of a text.
    drops_space: bool,
}

impl TextStream {
    /// A stream over a text from its beginning; special tokens yield no text.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        let drops_space = tokenizer.wants_space_first();
        Self { tokenizer, pending: Vec::new(), drops_space }
    }

    /// A stream over tokens that follow other text: a space they begin with is kept.
    pub fn continuing(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, pending: Vec::new(), drops_space: false }
    }

    /// Text completed by `token`; empty while a character is incomplete.
    pub fn push(&mut self, token: TokenId) -> String {
        let spelling = self.tokenizer.text_bytes(token, false);
        self.pending.extend(without_space(spelling, self.drops_space));
        self.drops_space &= spelling.is_empty();
        self.take_complete()
    }

    /// What is left at the end: an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let left = std::mem::take(&mut self.pending);
        String::from_utf8_lossy(&left).into_owned()
    }

    /// Takes all but an incomplete character out of `pending`; bytes that no continuation can
    /// make a character of become U+FFFD at once.
    fn take_complete(&mut self) -> String {
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    let Some(bad) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[bad..];
                }
            }
        }
        let taken = self.pending.len() - rest.len();
        self.pending.drain(..taken);
        text
    }
}

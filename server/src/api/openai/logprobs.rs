//! Log-probabilities in OpenAI's two shapes: the chat one (a list of tokens with their bytes) and
//! the legacy completions one (parallel lists with text offsets).
//!
//! Token texts here are for reading; the bytes are what a token stands for. A token that is not
//! whole UTF-8 by itself reads as U+FFFD in the chat shape (which carries the bytes beside it) and
//! as `bytes:\x..` in the legacy shape, so that two such tokens stay different keys.

use engine::TokenLogprob;
use models::{TokenId, Tokenizer};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What OpenAI reports in place of minus infinity, which JSON cannot say.
const LOGPROB_FLOOR: f32 = -9999.0;

/// Log-probabilities of a chat answer.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = ChatLogprobs)]
pub struct ChatLogprobs {
    /// One entry for each token of the answer.
    pub content: Vec<ChatLogprob>,
    /// Always null: no answer is a refusal here.
    pub refusal: Option<String>,
}

/// One token of a chat answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatLogprob {
    /// Its text.
    pub token: String,
    /// Its natural-log probability, before temperature and penalties.
    pub logprob: f32,
    /// The bytes it stands for.
    pub bytes: Vec<u8>,
    /// The most likely tokens in its place, best first.
    pub top_logprobs: Vec<TopLogprob>,
}

/// A token that could have stood in some place.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopLogprob {
    /// Its text.
    pub token: String,
    /// Its natural-log probability.
    pub logprob: f32,
    /// The bytes it stands for.
    pub bytes: Vec<u8>,
}

impl ChatLogprobs {
    /// The chat shape of `scores`.
    pub fn new(tokenizer: &Tokenizer, scores: &[TokenLogprob]) -> Self {
        let entry = |score: &TokenLogprob| {
            let bytes = tokenizer.token_bytes(score.token);
            ChatLogprob {
                token: String::from_utf8_lossy(&bytes).into_owned(),
                logprob: finite(score.logprob),
                bytes,
                top_logprobs: score
                    .top
                    .iter()
                    .map(|&(token, logprob)| {
                        let bytes = tokenizer.token_bytes(token);
                        TopLogprob {
                            token: String::from_utf8_lossy(&bytes).into_owned(),
                            logprob: finite(logprob),
                            bytes,
                        }
                    })
                    .collect(),
            }
        };
        Self { content: scores.iter().map(entry).collect(), refusal: None }
    }
}

/// Log-probabilities of a completion: four lists of one length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct CompletionLogprobs {
    /// Texts of the tokens.
    pub tokens: Vec<String>,
    /// Their natural-log probabilities; null where nothing stands before a token.
    pub token_logprobs: Vec<Option<f32>>,
    /// The most likely tokens in each place, the token itself among them; null with the former.
    pub top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// Where each token's text begins in the choice's text, in characters.
    pub text_offset: Vec<usize>,
}

/// Builds legacy log-probabilities token by token, keeping count of the text's characters.
#[derive(Debug, Default)]
pub struct CompletionScores {
    lists: CompletionLogprobs,
    chars: usize,
}

impl CompletionScores {
    /// Adds a token that has no text in the choice: the BOS put before a text prompt.
    pub fn push_silent(&mut self, bytes: &[u8]) {
        self.push_unscored(bytes, 0);
    }

    /// Adds the first token of a prompt, which nothing precedes.
    pub fn push_first(&mut self, bytes: &[u8]) {
        self.push_unscored(bytes, characters(bytes));
    }

    /// Adds a scored token; `bytes_of` gives the bytes a token stands for.
    pub fn push(&mut self, score: &TokenLogprob, bytes_of: impl Fn(TokenId) -> Vec<u8>) {
        let bytes = bytes_of(score.token);
        let mut top = BTreeMap::new();
        for &(token, logprob) in &score.top {
            // Best first: of two tokens with one text, the likelier stays.
            top.entry(key(&bytes_of(token))).or_insert_with(|| finite(logprob));
        }
        top.entry(key(&bytes)).or_insert_with(|| finite(score.logprob));
        self.lists.tokens.push(key(&bytes));
        self.lists.token_logprobs.push(Some(finite(score.logprob)));
        self.lists.top_logprobs.push(Some(top));
        self.lists.text_offset.push(self.chars);
        self.chars += characters(&bytes);
    }

    /// What was added since the last call; offsets go on from there.
    pub fn take(&mut self) -> CompletionLogprobs {
        std::mem::take(&mut self.lists)
    }

    fn push_unscored(&mut self, bytes: &[u8], width: usize) {
        self.lists.tokens.push(key(bytes));
        self.lists.token_logprobs.push(None);
        self.lists.top_logprobs.push(None);
        self.lists.text_offset.push(self.chars);
        self.chars += width;
    }
}

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { LOGPROB_FLOOR }
}

/// Characters that begin in `bytes`: continuation bytes belong to a token before.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte & 0xC0 != 0x80).count()
}

fn key(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |mut text, byte| {
            write!(text, "\\x{byte:02x}").expect("writing to a string cannot fail");
            text
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{CompletionScores, LOGPROB_FLOOR, key};
    use engine::TokenLogprob;

    const VOCAB: [&[u8]; 5] = [b"<s>", b"Hi", "\u{e9}".as_bytes(), b"\xc3", b"\xa9"];

    fn bytes_of(token: u32) -> Vec<u8> {
        VOCAB[token as usize].to_vec()
    }

    fn score(token: u32, logprob: f32, top: &[(u32, f32)]) -> TokenLogprob {
        TokenLogprob { token, logprob, top: top.to_vec() }
    }

    #[test]
    fn offsets_count_characters_of_the_text() {
        // "Hié" + the same é in two tokens + "Hi".
        let mut scores = CompletionScores::default();
        scores.push_silent(&bytes_of(0));
        for token in [1, 2, 3, 4, 1] {
            scores.push(&score(token, -1.0, &[]), bytes_of);
        }
        let lists = scores.take();
        assert_eq!(lists.text_offset, [0, 0, 2, 3, 4, 4]);
        assert_eq!(lists.tokens, ["<s>", "Hi", "\u{e9}", "bytes:\\xc3", "bytes:\\xa9", "Hi"]);
        assert_eq!(lists.token_logprobs[0], None);
        scores.push(&score(1, -1.0, &[]), bytes_of);
        assert_eq!(scores.take().text_offset, [6], "offsets go on after a take");
    }

    #[test]
    fn the_token_itself_is_among_the_top() {
        let mut scores = CompletionScores::default();
        scores.push(&score(1, -3.0, &[(2, -0.5)]), bytes_of);
        scores.push(&score(2, f32::NEG_INFINITY, &[]), bytes_of);
        let lists = scores.take();
        let top = lists.top_logprobs[0].as_ref().unwrap();
        assert_eq!((top["Hi"], top["\u{e9}"]), (-3.0, -0.5));
        assert_eq!(lists.token_logprobs[1], Some(LOGPROB_FLOOR));
    }

    #[test]
    fn partial_characters_keep_their_bytes() {
        assert_eq!(key(b"\xc3"), "bytes:\\xc3");
        assert_eq!(key(b"a"), "a");
    }
}

//! Text to token ids and back.

use crate::TokenId;
use std::sync::Arc;

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {}

impl Tokenizer {
    /// Token ids of `text`; adds no BOS. With `special`, special tokens written in the text
    /// (`<|im_start|>`) become their ids; without, they are plain text.
    pub fn encode(&self, text: &str, special: bool) -> Vec<TokenId> {
        let _ = (text, special);
        unimplemented!()
    }

    /// Text of tokens; special tokens are written out when `special`, else left out.
    pub fn decode(&self, tokens: &[TokenId], special: bool) -> String {
        let _ = (tokens, special);
        unimplemented!()
    }

    /// The bytes a token stands for.
    pub fn token_bytes(&self, token: TokenId) -> Vec<u8> {
        let _ = token;
        unimplemented!()
    }

    /// Entries of the vocabulary.
    pub fn vocab(&self) -> usize {
        unimplemented!()
    }

    /// The token that begins a text, where the model has one and wants it added.
    pub fn bos(&self) -> Option<TokenId> {
        unimplemented!()
    }

    /// Tokens that end a turn or a text.
    pub fn end_tokens(&self) -> &[TokenId] {
        unimplemented!()
    }

    /// Hash over everything the ids depend on.
    pub fn fingerprint(&self) -> [u8; 32] {
        unimplemented!()
    }
}

/// Streaming detokenization: never splits a UTF-8 character.
#[derive(Debug)]
pub struct TextStream {}

impl TextStream {
    /// A stream; special tokens yield no text.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        let _ = tokenizer;
        unimplemented!()
    }

    /// Text completed by `token`; empty while a character is incomplete.
    pub fn push(&mut self, token: TokenId) -> String {
        let _ = token;
        unimplemented!()
    }

    /// What is left at the end: an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        unimplemented!()
    }
}

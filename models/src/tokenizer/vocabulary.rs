//! A vocabulary as plain data, whatever file it came from, and the checks that make it safe to
//! build a tokenizer of.

use super::TokenizerError;
use crate::TokenId;
use std::collections::HashMap;

/// Everything token ids depend on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vocabulary {
    /// How text becomes tokens.
    pub model: VocabularyModel,
    /// Name of the pre-tokenizer (`smollm`, `qwen2`, …); not used by [`VocabularyModel::Pieces`].
    pub pre: String,
    /// Texts by id, in the vocabulary's own spelling (`Ġthe`, `▁the`, `<0x0A>`).
    pub tokens: Vec<String>,
    /// What each token is; one for each token.
    pub kinds: Vec<TokenKind>,
    /// Higher merges sooner; one for each token in [`VocabularyModel::Pieces`], else empty.
    /// Negative infinity: merging never makes this token.
    pub scores: Vec<f32>,
    /// Pairs in the order they merge; empty in [`VocabularyModel::Pieces`].
    pub merges: Vec<(String, String)>,
    /// Words that are tokens are taken whole, whatever the merges say (Llama 3).
    pub ignore_merges: bool,
    /// Text is put into Unicode's composed form first (Qwen's `tokenizer.json`).
    pub nfc: bool,
    /// Where a space is put in front of text.
    pub space_prefix: SpacePrefix,
    /// Begins a text.
    pub bos: Option<TokenId>,
    /// Ends a text.
    pub eos: Option<TokenId>,
    /// More tokens that end a turn, by the file's own word.
    pub ends: Vec<TokenId>,
    /// Stands for what the vocabulary lacks.
    pub unknown: Option<TokenId>,
    /// The model wants BOS at the beginning of a text.
    pub add_bos: bool,
}

/// How text becomes tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VocabularyModel {
    /// Byte-level BPE (GPT-2 and after): text is cut into words, each word's bytes are merged by
    /// rank.
    #[default]
    ByteLevel,
    /// SentencePiece BPE (Llama 2, Mistral, Gemma): characters of the whole text are merged by
    /// score; characters without a token become byte tokens.
    Pieces,
}

/// What a token is. The numbers are those of `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// Ordinary text.
    #[default]
    Normal = 1,
    /// Stands for what the vocabulary lacks.
    Unknown = 2,
    /// Special: text only becomes this token where special tokens are asked for, and it is no
    /// text.
    Control = 3,
    /// Text that is always one token, found before anything else.
    UserDefined = 4,
    /// Never used.
    Unused = 5,
    /// One byte.
    Byte = 6,
}

impl TokenKind {
    /// By GGUF's number; 0 (not defined) counts as ordinary text.
    pub fn from_gguf(number: i64) -> Option<Self> {
        Some(match number {
            0 | 1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }

    /// Whether plain text may become a token of this kind.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Normal | Self::UserDefined)
    }
}

/// Where a space is put in front of text before it is cut into pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SpacePrefix {
    /// Nowhere (Gemma).
    #[default]
    Never,
    /// At the beginning only.
    First,
    /// At the beginning and after each special token (Llama 2).
    AfterSpecial,
}

impl Vocabulary {
    /// Compares lengths and ids, and names empty tokens (`[EMPTY_7]`) so that each text is unique.
    pub(super) fn check(&mut self) -> Result<(), TokenizerError> {
        let vocab = self.tokens.len();
        if vocab == 0 {
            return Err(TokenizerError::Missing("the list of tokens".into()));
        }
        if vocab > VOCAB_MAX {
            let why = format!("has {vocab} entries, at most {VOCAB_MAX} are allowed");
            return Err(TokenizerError::malformed("the list of tokens", why));
        }
        if self.kinds.len() != vocab {
            let found = self.kinds.len();
            return Err(TokenizerError::Length { what: "token types", found, expected: vocab });
        }
        if self.model == VocabularyModel::Pieces {
            self.check_scores()?;
        }
        for (id, text) in self.tokens.iter_mut().enumerate() {
            if text.is_empty() {
                *text = format!("[EMPTY_{id}]");
            }
        }
        self.check_ids()?;
        self.check_unique()
    }

    fn check_scores(&self) -> Result<(), TokenizerError> {
        let expected = self.tokens.len();
        if self.scores.len() != expected {
            let found = self.scores.len();
            return Err(TokenizerError::Length { what: "token scores", found, expected });
        }
        for (id, score) in self.scores.iter().enumerate() {
            if score.is_nan() || *score == f32::INFINITY {
                return Err(TokenizerError::malformed(
                    format!("the score of token {id}"),
                    format!("is {score}"),
                ));
            }
        }
        Ok(())
    }

    fn check_ids(&self) -> Result<(), TokenizerError> {
        let vocab = self.tokens.len();
        let named = [("BOS", self.bos), ("EOS", self.eos), ("the unknown token", self.unknown)];
        let ends = self.ends.iter().map(|id| ("an end token", Some(*id)));
        for (what, id) in named.into_iter().chain(ends) {
            if let Some(id) = id
                && id as usize >= vocab
            {
                return Err(TokenizerError::OutOfRange { what: what.into(), id: id.into(), vocab });
            }
        }
        if self.add_bos && self.bos.is_none() {
            return Err(TokenizerError::Missing("the BOS token, which is to be added,".into()));
        }
        Ok(())
    }

    fn check_unique(&self) -> Result<(), TokenizerError> {
        let mut ids = HashMap::with_capacity(self.tokens.len());
        for (second, text) in self.tokens.iter().enumerate() {
            let second = second as TokenId;
            if let Some(first) = ids.insert(text.as_str(), second) {
                return Err(TokenizerError::Duplicate { text: text.clone(), first, second });
            }
        }
        Ok(())
    }

    /// Hash over everything ids depend on.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let mut text = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        text("cento tokenizer 1");
        text(&self.pre);
        for token in &self.tokens {
            text(token);
        }
        for (left, right) in &self.merges {
            text(left);
            text(right);
        }
        let kinds: Vec<u8> = self.kinds.iter().map(|kind| *kind as u8).collect();
        hasher.update(&kinds);
        let scores: Vec<u8> = self.scores.iter().flat_map(|score| score.to_le_bytes()).collect();
        hasher.update(&scores);
        hasher.update(&[
            self.model as u8,
            u8::from(self.ignore_merges),
            u8::from(self.nfc),
            self.space_prefix as u8,
            u8::from(self.add_bos),
        ]);
        for id in [self.bos, self.eos, self.unknown] {
            hasher.update(&id.map_or(u64::MAX, u64::from).to_le_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}

/// Sixteen times the largest vocabulary in use.
const VOCAB_MAX: usize = 1 << 22;

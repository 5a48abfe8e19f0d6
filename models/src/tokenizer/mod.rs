//! Text to token ids and back.
//!
//! A [`Tokenizer`] is built of a [`Vocabulary`], which is read from GGUF metadata (`gguf.rs`) or
//! from `tokenizer.json` (`json.rs`). Nothing in either file is run: a pre-tokenizer or a
//! normalizer that is not known is refused by name.

mod byte_alphabet;
mod byte_bpe;
mod error;
mod gguf;
mod json;
mod pieces;
mod special;
mod stream;
mod vocabulary;
mod words;

pub use error::TokenizerError;
pub use json::{TokenizerFiles, chat_template};
pub use stream::TextStream;
pub use vocabulary::{SpacePrefix, TokenKind, Vocabulary, VocabularyModel};

use crate::TokenId;
use byte_bpe::ByteBpe;
use pieces::PieceBpe;
use special::{Part, Specials};

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    encoder: Encoder,
    specials: Specials,
    space_prefix: SpacePrefix,
    spellings: Spellings,
    kinds: Vec<TokenKind>,
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    add_bos: bool,
    end_tokens: Vec<TokenId>,
    fingerprint: [u8; 32],
}

/// How text without special tokens becomes ids.
#[derive(Debug)]
enum Encoder {
    Bytes(Box<ByteBpe>),
    Pieces(Box<PieceBpe>),
}

impl Tokenizer {
    /// Builds a tokenizer.
    ///
    /// # Errors
    /// The vocabulary contradicts itself, or asks for what is not known; the error names it.
    pub fn new(mut vocabulary: Vocabulary) -> Result<Self, TokenizerError> {
        vocabulary.check()?;
        let end_tokens = special::end_tokens(&mut vocabulary);
        let fingerprint = vocabulary.fingerprint();
        let specials = Specials::new(&vocabulary)?;
        let spellings = Spellings::new(&vocabulary)?;
        let encoder = match vocabulary.model {
            VocabularyModel::ByteLevel => Encoder::Bytes(Box::new(ByteBpe::new(&mut vocabulary)?)),
            VocabularyModel::Pieces => Encoder::Pieces(Box::new(PieceBpe::new(&vocabulary)?)),
        };
        Ok(Self {
            encoder,
            specials,
            space_prefix: vocabulary.space_prefix,
            spellings,
            kinds: vocabulary.kinds,
            bos: vocabulary.bos,
            eos: vocabulary.eos,
            add_bos: vocabulary.add_bos,
            end_tokens,
            fingerprint,
        })
    }

    /// Token ids of `text`; adds no BOS. With `special`, special tokens written in the text
    /// (`<|im_start|>`) become their ids; without, they are plain text. Tokens that the vocabulary
    /// calls user-defined are text, and found either way.
    pub fn encode(&self, text: &str, special: bool) -> Vec<TokenId> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 1);
        let mut wants_space = self.wants_space_first();
        self.encode_part(text, special, &mut wants_space, &mut ids);
        ids
    }

    /// Appends the ids of a part of a text. `wants_space`: where the part begins, and where it
    /// ends, the vocabulary puts a space in front of text.
    pub(crate) fn encode_part(
        &self,
        text: &str,
        special: bool,
        wants_space: &mut bool,
        ids: &mut Vec<TokenId>,
    ) {
        for part in self.specials.parts(text, special) {
            match part {
                Part::Text(text) => {
                    self.encode_plain(text, *wants_space, ids);
                    *wants_space = false;
                }
                Part::Token(id) => {
                    ids.push(id);
                    *wants_space = self.wants_space_after_special();
                }
            }
        }
    }

    /// Whether a text begins with a space that is not written.
    pub(crate) fn wants_space_first(&self) -> bool {
        self.space_prefix != SpacePrefix::Never
    }

    /// Whether text that follows `text` begins with a space that is not written.
    pub(crate) fn wants_space_after(&self, text: &str) -> bool {
        match self.specials.parts(text, true).last() {
            None => self.wants_space_first(),
            Some(Part::Token(_)) => self.wants_space_after_special(),
            Some(Part::Text(_)) => false,
        }
    }

    fn wants_space_after_special(&self) -> bool {
        self.space_prefix == SpacePrefix::AfterSpecial
    }

    /// Appends the ids of text that holds no special tokens.
    fn encode_plain(&self, text: &str, space_first: bool, ids: &mut Vec<TokenId>) {
        match &self.encoder {
            Encoder::Bytes(bytes) => bytes.encode(text, ids),
            Encoder::Pieces(pieces) => {
                let mut spelled = String::with_capacity(text.len() + text.len() / 2);
                if space_first {
                    spelled.push(SPACE);
                }
                spelled.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
                pieces.encode(&spelled, ids);
            }
        }
    }

    /// Whether a special token is written in `text`.
    pub fn holds_special(&self, text: &str) -> bool {
        self.specials.holds_special(text)
    }

    /// Text of tokens; special tokens are written out when `special`, else left out. What is no
    /// UTF-8 becomes U+FFFD; ids beyond the vocabulary give nothing.
    ///
    /// The space that the vocabulary puts in front of a text is taken away again.
    pub fn decode(&self, tokens: &[TokenId], special: bool) -> String {
        let mut bytes = Vec::with_capacity(tokens.len() * 4);
        let mut at_start = self.wants_space_first();
        for token in tokens {
            let spelling = self.text_bytes(*token, special);
            bytes.extend(without_space(spelling, at_start));
            at_start &= spelling.is_empty();
        }
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// The bytes a token stands for; a special token's are its spelling. Empty for ids beyond the
    /// vocabulary and for tokens that are never used.
    pub fn token_bytes(&self, token: TokenId) -> Vec<u8> {
        self.spellings.of(token).to_vec()
    }

    /// Bytes that a token adds to a text.
    fn text_bytes(&self, token: TokenId, special: bool) -> &[u8] {
        if special || !self.is_special(token) { self.spellings.of(token) } else { &[] }
    }

    /// Whether a token is special: it is no text, and text only becomes it where that is asked
    /// for.
    pub fn is_special(&self, token: TokenId) -> bool {
        let kind = self.kinds.get(token as usize);
        matches!(kind, Some(TokenKind::Control | TokenKind::Unknown))
    }

    /// Entries of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.kinds.len()
    }

    /// The token that begins a text, where the model has one and wants it added.
    pub fn bos(&self) -> Option<TokenId> {
        self.bos.filter(|_| self.add_bos)
    }

    /// Spelling of the token that begins a text, wanted or not: templates may write it.
    pub fn bos_text(&self) -> String {
        self.spelling(self.bos)
    }

    /// Spelling of the token that ends a text.
    pub fn eos_text(&self) -> String {
        self.spelling(self.eos)
    }

    fn spelling(&self, token: Option<TokenId>) -> String {
        let bytes = token.map(|token| self.spellings.of(token));
        String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
    }

    /// Tokens that end a turn or a text, ascending.
    pub fn end_tokens(&self) -> &[TokenId] {
        &self.end_tokens
    }

    /// Hash over everything the ids depend on.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}

/// `spelling` without the space it may begin with.
fn without_space(spelling: &[u8], at_start: bool) -> &[u8] {
    if at_start { spelling.strip_prefix(b" ").unwrap_or(spelling) } else { spelling }
}

/// The bytes of all tokens, one after the other.
#[derive(Debug)]
struct Spellings {
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<usize>,
}

impl Spellings {
    fn new(vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let mut bytes = Vec::with_capacity(vocabulary.tokens.iter().map(String::len).sum());
        let mut ends = Vec::with_capacity(vocabulary.tokens.len());
        for (id, text) in vocabulary.tokens.iter().enumerate() {
            match (vocabulary.kinds[id], vocabulary.model) {
                (TokenKind::Unused, _) => {}
                (TokenKind::Byte, _) => bytes.push(pieces::byte_value(text, id as TokenId)?),
                (TokenKind::Normal, VocabularyModel::Pieces) => {
                    let spelled = text.chars().map(|c| if c == SPACE { ' ' } else { c });
                    bytes.extend(spelled.collect::<String>().into_bytes());
                }
                (TokenKind::Normal, VocabularyModel::ByteLevel) => {
                    // A token that is not spelled in the alphabet stands for itself.
                    let spelled: Option<Vec<u8>> =
                        text.chars().map(byte_alphabet::byte_of).collect();
                    bytes.extend(spelled.unwrap_or_else(|| text.clone().into_bytes()));
                }
                _ => bytes.extend_from_slice(text.as_bytes()),
            }
            ends.push(bytes.len());
        }
        Ok(Self { bytes, ends })
    }

    fn of(&self, token: TokenId) -> &[u8] {
        let token = token as usize;
        let Some(end) = self.ends.get(token) else { return &[] };
        let start = token.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..*end]
    }
}

/// How SentencePiece spells a space.
const SPACE: char = '▁';

#[cfg(test)]
pub(crate) mod tests;

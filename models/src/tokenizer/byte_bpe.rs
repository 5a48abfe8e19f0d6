//! Byte-level BPE (GPT-2 and after): words of a text, their bytes merged by rank.
//!
//! The merging is that of the `tokenizers` crate.

use super::words::{PreTokenizer, Words};
use super::{TokenizerError, Vocabulary, byte_alphabet};
use crate::TokenId;
use tokenizers::Model as _;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::{NormalizedString, Normalizer as _};

/// Cuts into words and merges their bytes.
#[derive(Debug)]
pub(super) struct ByteBpe {
    words: Words,
    merges: BPE,
    nfc: bool,
}

impl ByteBpe {
    /// Takes the merges out of the vocabulary: nothing else needs them.
    pub(super) fn new(vocabulary: &mut Vocabulary) -> Result<Self, TokenizerError> {
        let pre = PreTokenizer::named(&vocabulary.pre)?;
        let merges = std::mem::take(&mut vocabulary.merges);
        // Control tokens are never made of text, whoever wrote it.
        let tokens = vocabulary.tokens.iter().zip(&vocabulary.kinds).enumerate();
        let ids: Vocab = tokens
            .filter(|(_, (_, kind))| kind.is_text())
            .map(|(id, (text, _))| (text.clone(), id as TokenId))
            .collect();
        check_merges(&ids, &merges)?;
        let merges = BPE::builder()
            .vocab_and_merges(ids, merges)
            .ignore_merges(vocabulary.ignore_merges)
            .build()
            .map_err(|error| TokenizerError::malformed("merges", error.to_string()))?;
        Ok(Self { words: Words::new(pre), merges, nfc: vocabulary.nfc })
    }

    /// Appends the ids of `text`. Bytes that the vocabulary lacks are left out.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<TokenId>) {
        if self.nfc && !text.is_ascii() {
            let mut composed = NormalizedString::from(text);
            NFC.normalize(&mut composed).expect("composing characters cannot fail");
            self.encode_words(composed.get(), out);
        } else {
            self.encode_words(text, out);
        }
    }

    fn encode_words(&self, text: &str, out: &mut Vec<TokenId>) {
        let mut letters = String::new();
        for word in self.words.cut(text) {
            letters.clear();
            letters.extend(word.bytes().map(byte_alphabet::char_of));
            let tokens = self
                .merges
                .tokenize(&letters)
                .expect("merging without an unknown token and without dropout cannot fail");
            out.extend(tokens.iter().map(|token| token.id));
        }
    }
}

/// Every merge joins two tokens to a third. The crate asserts some of this and indexes by the
/// rest.
fn check_merges(ids: &Vocab, merges: &[(String, String)]) -> Result<(), TokenizerError> {
    let mut both = String::new();
    for (index, (left, right)) in merges.iter().enumerate() {
        both.clear();
        both.push_str(left);
        both.push_str(right);
        if let Some(token) = [left, right, &both].into_iter().find(|text| !ids.contains_key(*text))
        {
            let (left, right, token) = (left.clone(), right.clone(), token.clone());
            return Err(TokenizerError::Merge { index, left, right, token });
        }
    }
    Ok(())
}

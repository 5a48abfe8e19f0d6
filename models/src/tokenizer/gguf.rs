//! A vocabulary from the metadata of a GGUF file.

use super::words::PreTokenizer;
use super::{SpacePrefix, TokenKind, Tokenizer, TokenizerError, Vocabulary, VocabularyModel};
use crate::{Metadata, TokenId};

impl Tokenizer {
    /// The tokenizer that a GGUF file describes.
    ///
    /// # Errors
    /// See [`Vocabulary::from_gguf`] and [`Tokenizer::new`].
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        Self::new(Vocabulary::from_gguf(metadata)?)
    }
}

impl Vocabulary {
    /// Reads the keys `tokenizer.ggml.*`. What a file leaves out has the values that llama.cpp
    /// gives it (`llama_vocab::impl::load` in `src/llama-vocab.cpp`).
    ///
    /// # Errors
    /// A key is missing or has a value of the wrong type, or the model or the pre-tokenizer is
    /// not known.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let tokens = metadata
            .strings("tokenizer.ggml.tokens")?
            .ok_or_else(|| TokenizerError::Missing("tokenizer.ggml.tokens".into()))?
            .to_vec();
        let vocabulary = Self { kinds: kinds(metadata, tokens.len())?, tokens, ..Self::default() };
        let model = metadata
            .str("tokenizer.ggml.model")?
            .ok_or_else(|| TokenizerError::Missing("tokenizer.ggml.model".into()))?;
        let vocabulary = match model {
            "gpt2" => vocabulary.byte_level(metadata)?,
            "llama" => vocabulary.with_scores(metadata)?,
            other => {
                let what = "the vocabulary model";
                return Err(TokenizerError::Unsupported { what, name: other.into() });
            }
        };
        vocabulary.with_special_ids(metadata)
    }

    fn byte_level(self, metadata: &Metadata) -> Result<Self, TokenizerError> {
        let name = metadata.str("tokenizer.ggml.pre")?.unwrap_or_default();
        let pre = PreTokenizer::named(name)?;
        let merges = metadata
            .strings("tokenizer.ggml.merges")?
            .ok_or_else(|| TokenizerError::Missing("tokenizer.ggml.merges".into()))?;
        let merges = merges.iter().enumerate().map(|(index, text)| merge(index, text));
        Ok(Self {
            model: VocabularyModel::ByteLevel,
            pre: name.into(),
            merges: merges.collect::<Result<_, _>>()?,
            ignore_merges: pre.ignore_merges,
            add_bos: pre.add_bos,
            ..self
        })
    }

    fn with_scores(self, metadata: &Metadata) -> Result<Self, TokenizerError> {
        let scores = metadata
            .floats("tokenizer.ggml.scores")?
            .ok_or_else(|| TokenizerError::Missing("tokenizer.ggml.scores".into()))?
            .to_vec();
        let adds_space = metadata.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        let space_prefix = if adds_space { SpacePrefix::AfterSpecial } else { SpacePrefix::Never };
        let vocab = self.tokens.len() as TokenId;
        let default = |id: TokenId| (id < vocab).then_some(id);
        Ok(Self {
            model: VocabularyModel::Pieces,
            scores,
            space_prefix,
            unknown: default(0),
            bos: default(1),
            eos: default(2),
            add_bos: true,
            ..self
        })
    }

    fn with_special_ids(self, metadata: &Metadata) -> Result<Self, TokenizerError> {
        let id = |name: &str| metadata.u32(&format!("tokenizer.ggml.{name}_token_id"));
        let mut ends = Vec::new();
        for name in ["eot", "eom"] {
            ends.extend(id(name)?);
        }
        let bos = id("bos")?.or(self.bos);
        // Files say that BOS is to be added, or the model's kind does, but not which it is.
        let add_bos = match metadata.bool("tokenizer.ggml.add_bos_token")? {
            Some(add_bos) => add_bos,
            None => self.add_bos && bos.is_some(),
        };
        let eos = id("eos")?.or(self.eos);
        let unknown = id("unknown")?.or(self.unknown);
        Ok(Self { bos, eos, ends, unknown, add_bos, ..self })
    }
}

/// `tokenizer.ggml.token_type`; without it all tokens are ordinary text.
fn kinds(metadata: &Metadata, vocab: usize) -> Result<Vec<TokenKind>, TokenizerError> {
    let Some(numbers) = metadata.ints("tokenizer.ggml.token_type")? else {
        return Ok(vec![TokenKind::Normal; vocab]);
    };
    let kinds = numbers.iter().enumerate().map(|(id, number)| {
        TokenKind::from_gguf(*number).ok_or_else(|| {
            let what = format!("the type of token {id} in tokenizer.ggml.token_type");
            TokenizerError::malformed(what, format!("is {number}"))
        })
    });
    kinds.collect()
}

/// The two halves of `left right`. A token may itself begin with a space.
pub(super) fn merge(index: usize, text: &str) -> Result<(String, String), TokenizerError> {
    let first = text.chars().next().map_or(0, char::len_utf8);
    let Some(space) = text[first..].find(' ').map(|at| at + first) else {
        let why = format!("{text:?} is not two tokens with a space between them");
        return Err(TokenizerError::malformed(format!("merge {index}"), why));
    };
    Ok((text[..space].to_owned(), text[space + 1..].to_owned()))
}

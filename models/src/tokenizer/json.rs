//! A vocabulary from the files of a Hugging Face folder: `tokenizer.json`, and what
//! `tokenizer_config.json` and `generation_config.json` say beside it.
//!
//! The file describes a pipeline of its own. It is not run: it is recognised as one of the two
//! kinds of vocabulary here, and anything in it that neither has is refused by name.

use super::words::{self, PreTokenizer};
use super::{SpacePrefix, TokenKind, Tokenizer, TokenizerError, Vocabulary, VocabularyModel};
use crate::TokenId;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// Texts of the files that describe a tokenizer.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenizerFiles<'a> {
    /// `tokenizer.json`.
    pub tokenizer: &'a str,
    /// `tokenizer_config.json`: BOS, EOS, and whether BOS is added.
    pub config: Option<&'a str>,
    /// `generation_config.json`: further end tokens.
    pub generation: Option<&'a str>,
}

impl Tokenizer {
    /// The tokenizer that a Hugging Face folder describes.
    ///
    /// # Errors
    /// See [`Vocabulary::from_json`] and [`Tokenizer::new`].
    pub fn from_json(files: &TokenizerFiles<'_>) -> Result<Self, TokenizerError> {
        Self::new(Vocabulary::from_json(files)?)
    }
}

impl Vocabulary {
    /// Reads a BPE vocabulary, byte-level or SentencePiece-style.
    ///
    /// # Errors
    /// The files are no JSON of the expected form, or hold a part that is not known.
    pub fn from_json(files: &TokenizerFiles<'_>) -> Result<Self, TokenizerError> {
        let file: TokenizerJson = serde_json::from_str(files.tokenizer)
            .map_err(|error| TokenizerError::malformed("tokenizer.json", error.to_string()))?;
        let byte_level = has_byte_level(&file.pre_tokenizer) || has_byte_level(&file.decoder);
        let vocabulary = listed(&file)?;
        let vocabulary = if byte_level {
            vocabulary.cut_into_words(&file)?
        } else {
            vocabulary.cut_into_pieces(&file)?
        };
        vocabulary.with_configs(files, &file)
    }

    fn cut_into_words(self, file: &TokenizerJson) -> Result<Self, TokenizerError> {
        let nfc = match type_of(&file.normalizer) {
            None => false,
            Some("NFC") => true,
            Some(other) => return Err(unsupported("the normalizer", other)),
        };
        let pre = pre_tokenizer(&file.pre_tokenizer)?;
        Ok(Self {
            model: VocabularyModel::ByteLevel,
            pre: pre.names[0].into(),
            merges: merges(&file.model)?,
            ignore_merges: file.model.ignore_merges,
            nfc,
            ..self
        })
    }

    fn cut_into_pieces(mut self, file: &TokenizerJson) -> Result<Self, TokenizerError> {
        if !file.model.byte_fallback {
            return Err(unsupported("the model", "BPE without bytes"));
        }
        let mut space_prefix = SpacePrefix::Never;
        for step in steps(&file.normalizer, "normalizers") {
            match (type_of(step), &step["prepend"], &step["pattern"]["String"]) {
                (Some("Prepend"), Value::String(text), _) if text == "▁" => {
                    space_prefix = SpacePrefix::AfterSpecial;
                }
                (Some("Replace"), _, Value::String(text))
                    if text == " " && step["content"] == "▁" => {}
                _ => return Err(unsupported("the normalizer", &step.to_string())),
            }
        }
        for step in steps(&file.pre_tokenizer, "pretokenizers") {
            match (type_of(step), step["prepend_scheme"].as_str()) {
                // Cutting at spaces, each kept with what is before it, changes no merge: spaces
                // are pieces' first characters only.
                (Some("Split"), _) if step["pattern"]["String"] == " " => {}
                (Some("Metaspace"), scheme) if step["split"] == false => {
                    space_prefix = match scheme {
                        Some("never") => SpacePrefix::Never,
                        Some("first") => SpacePrefix::First,
                        Some("always") => SpacePrefix::AfterSpecial,
                        _ => return Err(unsupported("the pre-tokenizer", &step.to_string())),
                    };
                }
                _ => return Err(unsupported("the pre-tokenizer", &step.to_string())),
            }
        }
        for (id, text) in self.tokens.iter().enumerate() {
            if text.len() == 6 && self.kinds[id] == TokenKind::Normal && text.starts_with("<0x") {
                self.kinds[id] = TokenKind::Byte;
            }
        }
        let scores = scores(&self.tokens, &file.model)?;
        Ok(Self { model: VocabularyModel::Pieces, scores, space_prefix, ..self })
    }

    fn with_configs(
        self,
        files: &TokenizerFiles<'_>,
        file: &TokenizerJson,
    ) -> Result<Self, TokenizerError> {
        let config = parse(files.config, "tokenizer_config.json")?;
        let generation = parse(files.generation, "generation_config.json")?;
        let id_of = |name: &str| -> Result<Option<TokenId>, TokenizerError> {
            let value = &config[name];
            let Some(text) = value.as_str().or_else(|| value["content"].as_str()) else {
                return Ok(None);
            };
            let found = self.tokens.iter().position(|token| token == text);
            found.map(|id| Some(id as TokenId)).ok_or_else(|| {
                let why = format!("{text:?} is no token of tokenizer.json");
                TokenizerError::malformed(format!("{name} in tokenizer_config.json"), why)
            })
        };
        let (bos, eos) = (id_of("bos_token")?, id_of("eos_token")?);
        let ends = match &generation["eos_token_id"] {
            Value::Array(ids) => ids.iter().filter_map(Value::as_u64).collect(),
            value => value.as_u64().into_iter().collect::<Vec<_>>(),
        };
        let vocab = self.tokens.len();
        let ends = ends.into_iter().map(|id| token_id(id, "eos_token_id", vocab));
        let add_bos = config["add_bos_token"].as_bool().unwrap_or_else(|| {
            bos.is_some_and(|bos| begins_with(&file.post_processor, &self.tokens[bos as usize]))
        });
        Ok(Self { bos, eos, ends: ends.collect::<Result<_, _>>()?, add_bos, ..self })
    }
}

/// The chat template in the text of `tokenizer_config.json`: one, or the one called `default`.
///
/// # Errors
/// The text is no JSON.
pub fn chat_template(config: &str) -> Result<Option<String>, TokenizerError> {
    let config = parse(Some(config), "tokenizer_config.json")?;
    let template = &config["chat_template"];
    let named = template.as_array().into_iter().flatten();
    let default = named.into_iter().find(|entry| entry["name"] == "default");
    let source = template.as_str().or_else(|| default?["template"].as_str());
    Ok(source.map(str::to_owned))
}

/// The parts of `tokenizer.json` that ids depend on.
#[derive(Deserialize)]
struct TokenizerJson {
    model: ModelJson,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

#[derive(Deserialize)]
struct ModelJson {
    /// Old files leave it out.
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    vocab: Value,
    #[serde(default)]
    merges: Value,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    #[serde(default)]
    dropout: Option<f32>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
}

#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the file's own form")]
struct AddedToken {
    id: u64,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    single_word: bool,
}

/// Tokens and kinds; ids that nothing has are named and marked as never used.
fn listed(file: &TokenizerJson) -> Result<Vocabulary, TokenizerError> {
    let model = &file.model;
    let kind = model.kind.as_deref().unwrap_or("BPE");
    if kind != "BPE" {
        return Err(unsupported("the vocabulary model", kind));
    }
    if model.dropout.is_some_and(|dropout| dropout > 0.0) {
        return Err(unsupported("the model's option", "dropout"));
    }
    let affixes = [&model.continuing_subword_prefix, &model.end_of_word_suffix];
    if affixes.into_iter().flatten().any(|affix| !affix.is_empty()) {
        return Err(unsupported("the model's option", "a prefix or suffix of words"));
    }
    let listed = model.vocab.as_object().ok_or_else(|| {
        TokenizerError::malformed("model.vocab in tokenizer.json", "is not an object")
    })?;
    let mut named: BTreeMap<u64, (&str, TokenKind)> = BTreeMap::new();
    let known = listed.len() + file.added_tokens.len();
    for (text, id) in listed {
        let id = id.as_u64().ok_or_else(|| {
            TokenizerError::malformed(format!("the id of token {text:?}"), format!("is {id}"))
        })?;
        if let Some((other, _)) = named.insert(id, (text, TokenKind::Normal)) {
            let why = format!("belongs to {other:?} and to {text:?}");
            return Err(TokenizerError::malformed(format!("the token id {id}"), why));
        }
    }
    for token in &file.added_tokens {
        if token.lstrip || token.rstrip || token.single_word {
            return Err(unsupported("stripping spaces around the token", &token.content));
        }
        let kind = if token.special { TokenKind::Control } else { TokenKind::UserDefined };
        let replaced = named.insert(token.id, (&token.content, kind));
        if let Some((other, _)) = replaced.filter(|(other, _)| *other != token.content) {
            let why = format!("belongs to {other:?} and to {:?}", token.content);
            return Err(TokenizerError::malformed(format!("the token id {}", token.id), why));
        }
    }
    spread(&named, known, model.unk_token.as_deref())
}

/// A vocabulary with every token at its id.
fn spread(
    named: &BTreeMap<u64, (&str, TokenKind)>,
    known: usize,
    unknown: Option<&str>,
) -> Result<Vocabulary, TokenizerError> {
    let vocab = named.keys().next_back().map_or(0, |last| last.saturating_add(1));
    // Holes are rare; a vocabulary that is mostly holes is a wild id.
    let vocab_max = known as u64 * 2 + 4096;
    if vocab > vocab_max {
        let vocab = known;
        let what = "the highest token id in tokenizer.json".into();
        let id = named.keys().next_back().copied().unwrap_or_default();
        return Err(TokenizerError::OutOfRange { what, id, vocab });
    }
    let mut vocabulary = Vocabulary::default();
    for id in 0..vocab {
        let (text, kind) = match named.get(&id) {
            Some((text, kind)) => ((*text).to_owned(), *kind),
            None => (format!("[UNUSED_{id}]"), TokenKind::Unused),
        };
        if unknown == Some(text.as_str()) {
            vocabulary.unknown = Some(id as TokenId);
        }
        vocabulary.tokens.push(text);
        vocabulary.kinds.push(kind);
    }
    Ok(vocabulary)
}

/// `["a b", …]` or `[["a", "b"], …]`.
fn merges(model: &ModelJson) -> Result<Vec<(String, String)>, TokenizerError> {
    let list = model.merges.as_array().ok_or_else(|| {
        TokenizerError::malformed("model.merges in tokenizer.json", "is not an array")
    })?;
    let merges = list.iter().enumerate().map(|(index, entry)| {
        if let Some(text) = entry.as_str() {
            return super::gguf::merge(index, text);
        }
        match entry.as_array().map(Vec::as_slice) {
            Some([Value::String(left), Value::String(right)]) => Ok((left.clone(), right.clone())),
            _ => Err(TokenizerError::malformed(format!("merge {index}"), "is not two tokens")),
        }
    });
    merges.collect()
}

/// Each token's score by the first merge that makes it, which is what SentencePiece's converter
/// made the merges of: the text of a pair alone decides when it merges.
fn scores(tokens: &[String], model: &ModelJson) -> Result<Vec<f32>, TokenizerError> {
    let ids: HashMap<&str, usize> =
        tokens.iter().enumerate().map(|(id, text)| (text.as_str(), id)).collect();
    let mut scores = vec![f32::NEG_INFINITY; tokens.len()];
    for (index, (left, right)) in merges(model)?.into_iter().enumerate() {
        let both = format!("{left}{right}");
        let missing = [&left, &right, &both].into_iter().find(|t| !ids.contains_key(t.as_str()));
        if let Some(token) = missing.cloned() {
            return Err(TokenizerError::Merge { index, left, right, token });
        }
        let score = &mut scores[ids[both.as_str()]];
        *score = score.max(-(index as f32));
    }
    Ok(scores)
}

/// The entry of the table that a pre-tokenizer is.
fn pre_tokenizer(value: &Value) -> Result<&'static PreTokenizer, TokenizerError> {
    let mut patterns = Vec::new();
    for step in steps(value, "pretokenizers") {
        match type_of(step) {
            Some("ByteLevel") => {
                if step["add_prefix_space"] == true {
                    return Err(unsupported("the pre-tokenizer", "ByteLevel with a prefix space"));
                }
                if step["use_regex"] != false {
                    patterns.push(words::GPT2);
                }
            }
            Some("Digits") if step["individual_digits"] == true => patterns.push(words::DIGITS),
            Some("Split") => {
                let pattern = step["pattern"]["Regex"].as_str().unwrap_or_default();
                let inverted = step["invert"] == true;
                let isolates = match step["behavior"].as_str() {
                    Some("Isolated") => !inverted,
                    // Keeps the matches; the known patterns match everything.
                    Some("Removed") => inverted,
                    _ => false,
                };
                if !isolates || !PreTokenizer::knows(pattern) {
                    return Err(unsupported("the pre-tokenizer", &step.to_string()));
                }
                patterns.push(pattern);
            }
            _ => return Err(unsupported("the pre-tokenizer", &step.to_string())),
        }
    }
    PreTokenizer::with_patterns(&patterns)
        .ok_or_else(|| unsupported("the pre-tokenizer", &value.to_string()))
}

/// The steps of a pipeline: those of a `Sequence`, else the one itself.
fn steps<'a>(value: &'a Value, list: &str) -> Vec<&'a Value> {
    match type_of(value) {
        None => Vec::new(),
        Some("Sequence") => value[list].as_array().into_iter().flatten().collect(),
        Some(_) => vec![value],
    }
}

fn type_of(value: &Value) -> Option<&str> {
    value["type"].as_str()
}

fn has_byte_level(value: &Value) -> bool {
    let lists = ["pretokenizers", "decoders"];
    lists.iter().flat_map(|list| steps(value, list)).any(|step| type_of(step) == Some("ByteLevel"))
}

/// Whether the post-processor puts `bos` in front of a text.
fn begins_with(post_processor: &Value, bos: &str) -> bool {
    steps(post_processor, "processors")
        .into_iter()
        .any(|step| step["single"][0]["SpecialToken"]["id"] == bos)
}

fn parse(text: Option<&str>, name: &str) -> Result<Value, TokenizerError> {
    text.map_or(Ok(Value::Null), |text| {
        serde_json::from_str(text)
            .map_err(|error| TokenizerError::malformed(name, error.to_string()))
    })
}

fn token_id(id: u64, what: &str, vocab: usize) -> Result<TokenId, TokenizerError> {
    let in_range = TokenId::try_from(id).ok().filter(|id| (*id as usize) < vocab);
    in_range.ok_or_else(|| TokenizerError::OutOfRange { what: what.into(), id, vocab })
}

fn unsupported(what: &'static str, name: &str) -> TokenizerError {
    TokenizerError::Unsupported { what, name: name.chars().take(NAME_CHARS_MAX).collect() }
}

/// A pattern in an error message is cut here.
const NAME_CHARS_MAX: usize = 300;

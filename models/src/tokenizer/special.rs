//! Special tokens in text: finding them, and knowing by name the ones that end a turn.

use super::{TokenKind, TokenizerError, Vocabulary};
use crate::TokenId;
use aho_corasick::{AhoCorasick, MatchKind};

/// Finds tokens that are taken whole before the rest of a text is cut.
///
/// Where two could begin at one place the longer is taken, and the one that begins first is taken
/// before any that overlaps it: the rule of Hugging Face's tokenizers. llama.cpp takes the longest
/// of the whole text first; the two differ only where special tokens overlap partly, which those
/// of real vocabularies do not.
#[derive(Debug)]
pub(super) struct Specials {
    /// Control, unknown and user-defined tokens.
    all: Finder,
    /// User-defined tokens: found even where special tokens count as text.
    user_defined: Finder,
}

/// A stretch of text, or a token taken whole.
pub(super) enum Part<'a> {
    Text(&'a str),
    Token(TokenId),
}

impl Specials {
    pub(super) fn new(vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let of = |wanted: &[TokenKind]| {
            let is_wanted = |id: &usize| wanted.contains(&vocabulary.kinds[*id]);
            let ids = (0..vocabulary.tokens.len()).filter(is_wanted).map(|id| id as TokenId);
            Finder::new(vocabulary, ids.collect())
        };
        Ok(Self {
            all: of(&[TokenKind::Control, TokenKind::Unknown, TokenKind::UserDefined])?,
            user_defined: of(&[TokenKind::UserDefined])?,
        })
    }

    /// `text` in order, without empty stretches.
    pub(super) fn parts<'a>(&self, text: &'a str, special: bool) -> Vec<Part<'a>> {
        let finder = if special { &self.all } else { &self.user_defined };
        finder.parts(text)
    }

    /// Whether reading `text` with special tokens differs from reading it without.
    pub(super) fn holds_special(&self, text: &str) -> bool {
        let mut found = self.all.automaton.find_iter(text);
        let plain = &self.user_defined.ids;
        found.any(|hit| plain.binary_search(&self.all.ids[hit.pattern().as_usize()]).is_err())
    }
}

/// Tokens by text, ascending by id.
#[derive(Debug)]
struct Finder {
    automaton: AhoCorasick,
    ids: Vec<TokenId>,
}

impl Finder {
    fn new(vocabulary: &Vocabulary, ids: Vec<TokenId>) -> Result<Self, TokenizerError> {
        let texts = ids.iter().map(|id| vocabulary.tokens[*id as usize].as_bytes());
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(texts)
            .map_err(|error| TokenizerError::malformed("special tokens", error.to_string()))?;
        Ok(Self { automaton, ids })
    }

    fn parts<'a>(&self, text: &'a str) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        let mut at = 0;
        for hit in self.automaton.find_iter(text) {
            if at < hit.start() {
                parts.push(Part::Text(&text[at..hit.start()]));
            }
            parts.push(Part::Token(self.ids[hit.pattern().as_usize()]));
            at = hit.end();
        }
        if at < text.len() {
            parts.push(Part::Text(&text[at..]));
        }
        parts
    }
}

/// Finds the tokens that end a turn or a text, ascending, and makes sure that they are control
/// tokens: a vocabulary that has `<|im_end|>` as ordinary text is mistaken, and a user could then
/// end a turn by writing it.
///
/// As llama.cpp collects end-of-generation tokens (`llama_vocab::impl::load` in
/// `src/llama-vocab.cpp`), save that `</s>` counts only where it is a control token: in Gemma's
/// vocabulary it is a piece of HTML.
pub(super) fn end_tokens(vocabulary: &mut Vocabulary) -> Vec<TokenId> {
    let mut ends = vocabulary.ends.clone();
    ends.extend(vocabulary.eos);
    for (id, text) in vocabulary.tokens.iter().enumerate() {
        let kind = &mut vocabulary.kinds[id];
        let is_end = END_NAMES.contains(&text.as_str())
            || (*kind == TokenKind::Control && END_NAMES_OF_CONTROL.contains(&text.as_str()));
        if is_end {
            *kind = TokenKind::Control;
            ends.push(id as TokenId);
        }
    }
    // In the harmony format a message ends with <|end|>, and a turn with <|return|> or <|call|>.
    let id_of = |name: &str| ends.iter().find(|id| vocabulary.tokens[**id as usize] == name);
    if id_of("<|return|>").is_some() && id_of("<|call|>").is_some() {
        let end = id_of("<|end|>").copied();
        ends.retain(|id| Some(*id) != end);
    }
    ends.sort_unstable();
    ends.dedup();
    ends
}

/// Texts of tokens that end a turn, a text, or (in infilling) a file.
const END_NAMES: [&str; 26] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<turn|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<｜end▁of▁sentence｜>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// Texts that end a text where the vocabulary calls them control tokens.
const END_NAMES_OF_CONTROL: [&str; 2] = ["</s>", "<eos>"];

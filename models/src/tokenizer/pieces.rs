//! SentencePiece-style encoding: characters of a whole text, merged by score.
//!
//! The algorithm of SentencePiece's BPE (`src/bpe_model.cc` of
//! <https://github.com/google/sentencepiece>) and of llama.cpp's
//! `llm_tokenizer_spm`: of all adjacent pairs whose text is a token the one with the highest score
//! merges first, the leftmost of equals. With a heap of pairs this takes O(n log n).

use super::{TokenKind, TokenizerError, Vocabulary};
use crate::TokenId;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

/// Texts of a SentencePiece vocabulary that plain text may become.
#[derive(Debug)]
pub(super) struct PieceBpe {
    pieces: HashMap<Box<str>, Piece>,
    /// Length in bytes of the longest piece: longer pairs need not be looked up.
    piece_bytes_max: usize,
    /// Tokens of single bytes, for characters without a piece.
    bytes: [Option<TokenId>; 256],
    unknown: Option<TokenId>,
}

/// A token that merging can make.
#[derive(Clone, Copy, Debug)]
struct Piece {
    id: TokenId,
    score: f32,
}

impl PieceBpe {
    pub(super) fn new(vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let mut pieces = HashMap::with_capacity(vocabulary.tokens.len());
        let mut bytes = [None; 256];
        let mut piece_bytes_max = 0;
        for (id, text) in vocabulary.tokens.iter().enumerate() {
            let kind = vocabulary.kinds[id];
            let id = id as TokenId;
            if kind == TokenKind::Byte {
                bytes[usize::from(byte_value(text, id)?)] = Some(id);
            }
            // Control tokens are never made of text, whoever wrote it; SentencePiece leaves them
            // out too.
            if kind.is_text() {
                piece_bytes_max = piece_bytes_max.max(text.len());
                // Adding zero makes -0.0 equal to 0.0 in the total order.
                let score = vocabulary.scores[id as usize] + 0.0;
                pieces.insert(text.as_str().into(), Piece { id, score });
            }
        }
        Ok(Self { pieces, piece_bytes_max, bytes, unknown: vocabulary.unknown })
    }

    /// Appends the ids of `text`, in which spaces are already written as `▁`.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<TokenId>) {
        let mut symbols = symbols(text);
        let mut pairs = BinaryHeap::with_capacity(symbols.len());
        for right in 1..symbols.len() {
            pairs.extend(self.pair(text, &symbols, right - 1, right));
        }
        while let Some(pair) = pairs.pop() {
            let (left, right) = (pair.left as usize, pair.right as usize);
            let merged = symbols[left].len + symbols[right].len;
            let is_stale = symbols[left].len == 0 || symbols[right].len == 0 || merged != pair.len;
            if is_stale {
                continue;
            }
            symbols[left].len = merged;
            symbols[right].len = 0;
            let next = symbols[right].next;
            symbols[left].next = next;
            if next != NONE {
                symbols[next as usize].previous = pair.left;
                pairs.extend(self.pair(text, &symbols, left, next as usize));
            }
            let previous = symbols[left].previous;
            if previous != NONE {
                pairs.extend(self.pair(text, &symbols, previous as usize, left));
            }
        }
        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
            self.emit(symbol.text(text), out);
        }
    }

    /// The pair of two neighbours, where its text is a piece.
    fn pair(&self, text: &str, symbols: &[Symbol], left: usize, right: usize) -> Option<Pair> {
        let len = symbols[left].len + symbols[right].len;
        if len as usize > self.piece_bytes_max {
            return None;
        }
        let start = symbols[left].start as usize;
        let piece = self.pieces.get(&text[start..start + len as usize])?;
        let may_merge = piece.score > f32::NEG_INFINITY;
        may_merge.then_some(Pair {
            score: piece.score,
            left: left as u32,
            right: right as u32,
            len,
        })
    }

    /// The token of `text`, or the tokens of its bytes.
    fn emit(&self, text: &str, out: &mut Vec<TokenId>) {
        if let Some(piece) = self.pieces.get(text) {
            out.push(piece.id);
            return;
        }
        for byte in text.bytes() {
            out.extend(self.bytes[usize::from(byte)].or(self.unknown));
        }
    }
}

/// The byte that a token spelled `<0x0A>` stands for.
pub(super) fn byte_value(text: &str, id: TokenId) -> Result<u8, TokenizerError> {
    text.strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'))
        .filter(|digits| digits.len() == 2)
        .and_then(|digits| u8::from_str_radix(digits, 16).ok())
        .ok_or_else(|| {
            let why = format!("is spelled {text:?}, not like <0x0A>");
            TokenizerError::malformed(format!("the byte token {id}"), why)
        })
}

/// A run of the text that will be one token; a linked list, so that merging moves nothing.
#[derive(Debug)]
struct Symbol {
    start: u32,
    /// Zero: merged into a neighbour.
    len: u32,
    previous: u32,
    next: u32,
}

impl Symbol {
    fn text<'a>(&self, text: &'a str) -> &'a str {
        &text[self.start as usize..(self.start + self.len) as usize]
    }
}

/// One symbol for each character.
fn symbols(text: &str) -> Vec<Symbol> {
    let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
    for (start, letter) in text.char_indices() {
        let index = symbols.len() as u32;
        symbols.push(Symbol {
            start: start as u32,
            len: letter.len_utf8() as u32,
            previous: index.checked_sub(1).unwrap_or(NONE),
            next: index + 1,
        });
    }
    if let Some(last) = symbols.last_mut() {
        last.next = NONE;
    }
    symbols
}

/// Two neighbours that could merge; stale once either has merged with another.
#[derive(Debug, PartialEq)]
struct Pair {
    score: f32,
    left: u32,
    right: u32,
    len: u32,
}

impl Eq for Pair {}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// No neighbour.
const NONE: u32 = u32::MAX;

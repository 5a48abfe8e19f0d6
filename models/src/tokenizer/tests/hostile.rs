//! Vocabularies that contradict themselves: refused with an error that names the thing.

use super::sample::{byte_level, pieces};
use crate::tokenizer::{Tokenizer, TokenizerFiles, Vocabulary};
use crate::value::{Array, Metadata, Value};

#[test]
fn contradictions_are_named() {
    check(byte_level(), |v| v.tokens.clear(), "the list of tokens is missing");
    check(byte_level(), |v| v.kinds.truncate(9), "token types has 9 entries for 265 tokens");
    check(byte_level(), |v| v.pre = "gpt9".into(), "the pre-tokenizer \"gpt9\" is not supported");
    check(
        byte_level(),
        |v| v.tokens[70] = "<tool>".into(),
        "token \"<tool>\" has the ids 70 and 262",
    );
    check(
        byte_level(),
        |v| v.merges.push(("he".into(), "zz".into())),
        "merge 4 (\"he\" with \"zz\") names the unknown token \"zz\"",
    );
    check(
        byte_level(),
        |v| v.merges.push(("hello".into(), "hello".into())),
        "merge 4 (\"hello\" with \"hello\") names the unknown token \"hellohello\"",
    );
    check(
        byte_level(),
        |v| v.merges.push((String::new(), String::new())),
        "merge 4 (\"\" with \"\") names the unknown token \"\"",
    );
    check(byte_level(), |v| v.bos = Some(265), "BOS is 265, the vocabulary has 265 tokens");
    check(byte_level(), |v| v.ends = vec![7, u32::MAX], "an end token is 4294967295, the");
    check(byte_level(), |v| v.add_bos = true, "the BOS token, which is to be added, is missing");
    check(pieces(), |v| v.scores.push(0.0), "token scores has 292 entries for 291 tokens");
    check(pieces(), |v| v.scores[5] = f32::NAN, "the score of token 5: is NaN");
    check(
        pieces(),
        |v| v.tokens[9] = "<0xéé>".into(),
        "the byte token 9: is spelled \"<0xéé>\", not like <0x0A>",
    );
}

fn check(mut vocabulary: Vocabulary, harm: fn(&mut Vocabulary), expected: &str) {
    harm(&mut vocabulary);
    let error = Tokenizer::new(vocabulary).unwrap_err().to_string();
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn empty_tokens_have_names() {
    let mut vocabulary = byte_level();
    vocabulary.tokens[3].clear();
    vocabulary.tokens[4].clear();
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    assert_eq!(tokenizer.token_bytes(4), b"[EMPTY_4]");
}

#[test]
fn metadata_of_the_wrong_form_is_named() {
    let check = |key: &str, value: Option<Value>, expected: &str| {
        let error = Tokenizer::from_gguf(&metadata(key, value)).unwrap_err().to_string();
        assert_eq!(error, expected);
    };
    Tokenizer::from_gguf(&metadata("general.name", None)).unwrap();
    check("tokenizer.ggml.tokens", None, "tokenizer.ggml.tokens is missing");
    check("tokenizer.ggml.model", None, "tokenizer.ggml.model is missing");
    check("tokenizer.ggml.merges", None, "tokenizer.ggml.merges is missing");
    check(
        "tokenizer.ggml.model",
        Some(Value::Str("bert".into())),
        "the vocabulary model \"bert\" is not supported",
    );
    check(
        "tokenizer.ggml.pre",
        Some(Value::Uint(3)),
        "tokenizer.ggml.pre: expected a string, found the integer 3",
    );
    check(
        "tokenizer.ggml.token_type",
        Some(Value::Array(Array::Ints(vec![1, 9]))),
        "the type of token 1 in tokenizer.ggml.token_type: is 9",
    );
    check(
        "tokenizer.ggml.merges",
        Some(Value::Array(Array::Strings(vec!["h e".into(), " é".into()]))),
        "merge 1: \" é\" is not two tokens with a space between them",
    );
    check(
        "tokenizer.ggml.bos_token_id",
        Some(Value::Uint(1 << 40)),
        "tokenizer.ggml.bos_token_id: expected an integer of 32 bits, not negative, found the \
         integer 1099511627776",
    );
    check(
        "tokenizer.ggml.eos_token_id",
        Some(Value::Uint(999)),
        "EOS is 999, the vocabulary has 265 tokens",
    );
}

/// The byte-level sample as a GGUF file has it, with one key replaced or (`None`) left out.
fn metadata(key: &str, value: Option<Value>) -> Metadata {
    let vocabulary = byte_level();
    let merges = vocabulary.merges.iter().map(|(left, right)| format!("{left} {right}"));
    let kinds = vocabulary.kinds.iter().map(|kind| *kind as i64);
    let pairs = [
        ("tokenizer.ggml.model", Value::Str("gpt2".into())),
        ("tokenizer.ggml.pre", Value::Str("gpt-2".into())),
        ("tokenizer.ggml.merges", Value::Array(Array::Strings(merges.collect()))),
        ("tokenizer.ggml.token_type", Value::Array(Array::Ints(kinds.collect()))),
        ("tokenizer.ggml.tokens", Value::Array(Array::Strings(vocabulary.tokens))),
    ];
    let mut metadata = Metadata::default();
    for (name, value) in pairs.into_iter().filter(|(name, _)| *name != key) {
        metadata.insert(name.into(), value);
    }
    if let Some(value) = value {
        metadata.insert(key.into(), value);
    }
    metadata
}

/// Random harm to both kinds and to `tokenizer.json`: an error or a tokenizer that works, never a
/// panic.
#[test]
fn no_mutation_panics() {
    let mut random = Random(0x5EED);
    let mut refused = 0;
    for _ in 0..400 {
        let mut vocabulary = if random.below(2) == 0 { byte_level() } else { pieces() };
        for _ in 0..=random.below(3) {
            harm(&mut vocabulary, &mut random);
        }
        refused += usize::from(!survives(Tokenizer::new(vocabulary).ok()));
    }
    let json = super::json::byte_level_json().to_string();
    for _ in 0..400 {
        let mut bytes = json.clone().into_bytes();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = b"\"{}[]:,0-9ntf\xF0"[random.below(14)],
                1 => drop(bytes.drain(at..(at + random.below(40)).min(bytes.len()))),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let files = TokenizerFiles { tokenizer: &text, ..TokenizerFiles::default() };
        refused += usize::from(!survives(Tokenizer::from_json(&files).ok()));
    }
    assert!((200..800).contains(&refused), "{refused} of 800 refused: the harm is too weak");
}

/// Uses a tokenizer, where there is one.
fn survives(tokenizer: Option<Tokenizer>) -> bool {
    let Some(tokenizer) = tokenizer else { return false };
    for special in [true, false] {
        let ids = tokenizer.encode("hello <|im_start|> the</s> cat\n\n\n é🙂 12", special);
        assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab()));
        tokenizer.decode(&ids, special);
    }
    tokenizer.decode(&[0, 1, 2, 300, u32::MAX], false);
    true
}

fn harm(vocabulary: &mut Vocabulary, random: &mut Random) {
    let token = random.below(vocabulary.tokens.len().max(1));
    let other = random.below(vocabulary.tokens.len().max(1));
    match random.below(9) {
        0 => vocabulary.tokens.truncate(token),
        1 => vocabulary.kinds.truncate(token),
        2 => vocabulary.tokens.swap(token, other),
        3 => vocabulary.tokens[token] = vocabulary.tokens[other].clone(),
        4 => vocabulary.tokens[token].clear(),
        5 => vocabulary.merges.push((vocabulary.tokens[token].clone(), "e".into())),
        6 => vocabulary.bos = Some(random.below(600) as u32),
        7 => vocabulary.scores = vec![f32::from_bits(random.next() as u32); token],
        _ => vocabulary.pre = ["", "qwen2", "?"][random.below(3)].into(),
    }
    if vocabulary.tokens.is_empty() {
        vocabulary.tokens.push("a".into());
    }
}

/// A counter-based generator (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

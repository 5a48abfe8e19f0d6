//! `tokenizer.json`: the same vocabularies give the same ids; what is not known is refused.

use super::sample::{byte_level, pieces};
use crate::tokenizer::{
    TokenKind, Tokenizer, TokenizerFiles, Vocabulary, VocabularyModel, chat_template,
};
use serde_json::{Value, json};

#[test]
fn ids_are_those_of_the_same_vocabulary() {
    let cases = ["hello hell<|im_start|>he\n\n\n <tool>", "the cat</s> aaa abc", "é🙂", ""];
    let both = [(byte_level(), byte_level_json()), (pieces(), pieces_json())];
    for (vocabulary, json) in both {
        let expected = Tokenizer::new(vocabulary).unwrap();
        let tokenizer = build(&json, None).unwrap();
        for text in cases {
            for special in [true, false] {
                let ids = expected.encode(text, special);
                assert_eq!(tokenizer.encode(text, special), ids, "{text:?}");
                assert_eq!(tokenizer.decode(&ids, false), expected.decode(&ids, false));
            }
        }
    }
}

#[test]
fn configs_say_what_begins_and_ends() {
    let config = json!({"bos_token": {"content": "<s>"}, "eos_token": "</s>"}).to_string();
    let files = TokenizerFiles {
        tokenizer: &pieces_json().to_string(),
        config: Some(&config),
        generation: Some(r#"{"eos_token_id": [2, 7]}"#),
    };
    let tokenizer = Tokenizer::from_json(&files).unwrap();
    assert_eq!(tokenizer.end_tokens(), [2, 7]);
    assert_eq!(tokenizer.bos(), Some(1), "the post-processor adds it");
    assert_eq!((tokenizer.bos_text(), tokenizer.eos_text()), ("<s>".into(), "</s>".into()));
    let config = json!({"bos_token": "<s>", "add_bos_token": false}).to_string();
    let files = TokenizerFiles { config: Some(&config), ..files };
    assert_eq!(Tokenizer::from_json(&files).unwrap().bos(), None);
}

#[test]
fn chat_templates_have_two_forms() {
    let named = r#"{"chat_template": [{"name": "rag", "template": "R"},
                                      {"name": "default", "template": "T"}]}"#;
    assert_eq!(chat_template(named).unwrap().as_deref(), Some("T"));
    assert_eq!(chat_template(r#"{"chat_template": "T"}"#).unwrap().as_deref(), Some("T"));
    assert_eq!(chat_template("{}").unwrap(), None);
    assert!(chat_template("{").is_err());
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    // A pattern that takes exponential time on "aaaa…" is never compiled.
    let bomb = json!({"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated",
                      "invert": false});
    check("/pre_tokenizer", bomb, "the pre-tokenizer", "(a+)+$");
    check("/pre_tokenizer", json!({"type": "Whitespace"}), "the pre-tokenizer", "Whitespace");
    check("/normalizer", json!({"type": "Lowercase"}), "the normalizer", "Lowercase");
    check("/model/type", json!("Unigram"), "the vocabulary model", "Unigram");
    check("/model/dropout", json!(0.5), "the model's option", "dropout");
    check("/model/end_of_word_suffix", json!("</w>"), "the model's option", "suffix");
    check("/model/continuing_subword_prefix", json!("##"), "the model's option", "prefix");
    check("/model/vocab/he", json!(1_u64 << 33), "the highest token id", "8589934592");
    check("/model/vocab/he", json!(5), "the token id 5", "he");
    check("/model/vocab/he", json!(-5), "the id of token \"he\"", "-5");
    check("/model/merges/0", json!(["h"]), "merge 0", "two tokens");
    check("/model/merges/0", json!(["h", "zz"]), "merge 0", "zz");
    check("/added_tokens/0/lstrip", json!(true), "stripping spaces", "<|im_start|>");
    check("/added_tokens/0/content", json!("he"), "token \"he\" has the ids 256 and 260", "");
    let deep = "[".repeat(100_000);
    let files = TokenizerFiles { tokenizer: &deep, ..TokenizerFiles::default() };
    assert!(Tokenizer::from_json(&files).is_err());
}

fn check(pointer: &str, value: Value, start: &str, part: &str) {
    let mut json = byte_level_json();
    *json.pointer_mut(pointer).unwrap() = value;
    let error = build(&json, None).unwrap_err().to_string();
    assert!(error.starts_with(start) && error.contains(part), "{pointer}: {error}");
}

fn build(json: &Value, config: Option<&str>) -> Result<Tokenizer, crate::TokenizerError> {
    let tokenizer = json.to_string();
    Tokenizer::from_json(&TokenizerFiles { tokenizer: &tokenizer, config, generation: None })
}

/// The byte-level sample in the form of GPT-2's file.
pub(super) fn byte_level_json() -> Value {
    let mut json = file(&byte_level());
    json["pre_tokenizer"] = json!({"type": "ByteLevel", "add_prefix_space": false});
    json["decoder"] = json!({"type": "ByteLevel"});
    json
}

/// The SentencePiece sample in the form of Llama 2's file.
fn pieces_json() -> Value {
    let vocabulary = pieces();
    // Merges in the order of scores, as the converter makes them: every pair that spells a piece.
    let mut merged: Vec<(f32, &String)> = vocabulary
        .scores
        .iter()
        .copied()
        .zip(&vocabulary.tokens)
        .filter(|(score, text)| *score < 0.0 && *score > -1000.0 && text.chars().count() > 1)
        .collect();
    merged.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut merges = Vec::new();
    for (_, text) in merged {
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            let known = |half: &str| vocabulary.tokens.iter().any(|token| token == half);
            if known(left) && known(right) {
                merges.push(json!([left, right]));
            }
        }
    }
    let mut json = file(&vocabulary);
    json["model"]["merges"] = merges.into();
    json["model"]["byte_fallback"] = true.into();
    json["model"]["unk_token"] = "<unk>".into();
    json["normalizer"] = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ]});
    json["post_processor"] = json!({"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
    ]});
    json
}

fn file(vocabulary: &Vocabulary) -> Value {
    let is_added = |kind: TokenKind| !matches!(kind, TokenKind::Normal | TokenKind::Byte);
    let tokens = || vocabulary.tokens.iter().zip(&vocabulary.kinds).enumerate();
    let vocab: serde_json::Map<String, Value> = tokens()
        .filter(|(_, (_, kind))| !is_added(**kind) || vocabulary.model == VocabularyModel::Pieces)
        .map(|(id, (text, _))| (text.clone(), id.into()))
        .collect();
    let added: Vec<Value> = tokens()
        .filter(|(_, (_, kind))| is_added(**kind))
        .map(|(id, (text, kind))| {
            json!({"id": id, "content": text, "special": *kind != TokenKind::UserDefined,
                   "lstrip": false, "rstrip": false, "single_word": false, "normalized": false})
        })
        .collect();
    let merges: Vec<String> =
        vocabulary.merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
    json!({
        "version": "1.0", "added_tokens": added, "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "vocab": vocab,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "merges": merges},
    })
}

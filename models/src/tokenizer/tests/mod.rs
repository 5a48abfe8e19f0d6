//! Small vocabularies of both kinds: ids worked out by hand.

mod hostile;
mod json;
pub(crate) mod sample;
mod stream;

use super::{Tokenizer, Vocabulary};
use sample::{byte_level, pieces};

fn check(vocabulary: Vocabulary, special: bool, text: &str, expected: &[&str]) {
    let texts = vocabulary.tokens.clone();
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    let ids = tokenizer.encode(text, special);
    let spelled: Vec<&str> = ids.iter().map(|id| texts[*id as usize].as_str()).collect();
    assert_eq!(spelled, expected, "{text:?}, special: {special}");
    assert_eq!(tokenizer.decode(&ids, true), text);
}

#[test]
fn bytes_merge_by_rank_within_words() {
    check(byte_level(), false, "hello hell", &["hello", "Ġ", "hell"]);
    check(byte_level(), false, "hehe", &["he", "he"]);
    check(byte_level(), false, "  he", &["Ġ", "Ġ", "he"]);
    check(byte_level(), false, "é", &["Ã", "©"]);
    check(byte_level(), false, "", &[]);
}

#[test]
fn special_tokens_are_parsed_where_asked_for() {
    let text = "<|im_start|>he<tool><|im_end|>";
    check(byte_level(), true, text, &["<|im_start|>", "he", "<tool>", "<|im_end|>"]);
    let plain = Tokenizer::new(byte_level()).unwrap().encode(text, false);
    let control = Tokenizer::new(byte_level()).unwrap().encode("<|im_start|><|im_end|>", true);
    assert_eq!(control.len(), 2);
    assert!(plain.iter().all(|id| !control.contains(id)), "{plain:?} holds one of {control:?}");
    let user_defined = Tokenizer::new(byte_level()).unwrap().encode("<tool>", false);
    assert!(plain.contains(&user_defined[0]), "user-defined tokens are found either way");
}

#[test]
fn longer_special_tokens_win_over_their_beginnings() {
    check(byte_level(), false, "\n\n\n\n\n", &["\n\n\n", "\n\n"]);
}

#[test]
fn pieces_merge_by_score_over_the_whole_text() {
    check(pieces(), false, "the cat", &["▁the", "▁c", "at"]);
    // "ab" scores higher than "bc": the left pair merges first.
    check(pieces(), false, "abc", &["▁", "ab", "c"]);
    // Equal scores: the leftmost pair.
    check(pieces(), false, "aaa", &["▁", "aa", "a"]);
    // No piece: bytes.
    check(pieces(), false, "é", &["▁", "<0xC3>", "<0xA9>"]);
}

#[test]
fn spaces_are_put_in_front_and_taken_away_again() {
    let tokenizer = Tokenizer::new(pieces()).unwrap();
    let ids = tokenizer.encode("the</s>the", true);
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[0], ids[2], "a space after each special token");
    assert_eq!(tokenizer.decode(&ids, false), "the the");
    assert_eq!(tokenizer.token_bytes(ids[0]), b" the");
    let bare = Vocabulary { space_prefix: super::SpacePrefix::Never, ..pieces() };
    check(bare, false, " the", &["▁the"]);
}

#[test]
fn text_never_becomes_a_control_token() {
    // The pieces "<" "/" "s" ">" merge to "</" and "s>", which together spell a control token.
    let tokenizer = Tokenizer::new(pieces()).unwrap();
    let eos = tokenizer.encode("</s>", true);
    let plain = tokenizer.encode("</s>", false);
    assert_eq!(eos.len(), 1);
    assert!(!plain.contains(&eos[0]));
    assert_eq!(tokenizer.decode(&plain, false), "</s>");
    assert!(tokenizer.holds_special("a</s>") && !tokenizer.holds_special("a<s"));
}

#[test]
fn end_tokens_are_known_by_name_and_become_control_tokens() {
    let mut vocabulary = byte_level();
    let end = vocabulary.tokens.iter().position(|text| text == "<|im_end|>").unwrap();
    vocabulary.kinds[end] = super::TokenKind::Normal;
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    assert_eq!(tokenizer.end_tokens(), [end as u32]);
    assert!(tokenizer.is_special(end as u32));
    assert_eq!(tokenizer.decode(&[end as u32], false), "");
}

#[test]
fn fingerprints_tell_vocabularies_apart() {
    let print = |vocabulary| Tokenizer::new(vocabulary).unwrap().fingerprint();
    assert_eq!(print(byte_level()), print(byte_level()));
    let mut swapped = byte_level();
    swapped.merges.swap(0, 1);
    assert_ne!(print(byte_level()), print(swapped));
    let other = Vocabulary { pre: "qwen2".into(), ..byte_level() };
    assert_ne!(print(byte_level()), print(other));
    assert_ne!(print(byte_level()), print(pieces()));
}

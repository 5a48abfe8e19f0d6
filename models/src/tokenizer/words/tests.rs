//! Words of the pre-tokenizers, and their equality with the patterns as Hugging Face has them.

use super::{PreTokenizer, SPACES_TAIL, TABLE, Words};

#[test]
fn words_are_cut_as_the_models_were_trained() {
    check(
        "gpt-2",
        "I'll  pay $12.50!\n\n x",
        &["I", "'ll", " ", " pay", " $", "12", ".", "50", "!", "\n\n", " x"],
    );
    check("gpt-2", "a\n\nb \tc  ", &["a", "\n", "\n", "b", " ", "\t", "c", "  "]);
    check("smollm", "in 2024,", &["in", " ", "2", "0", "2", "4", ","]);
    check(
        "llama-bpe",
        "12345 I'LL\n\n  go  \n",
        &["123", "45", " I", "'LL", "\n\n", " ", " go", "  \n"],
    );
    check("qwen2", "12 (x)\n\n", &["1", "2", " (", "x", ")\n\n"]);
    check("default", "12345,6", &["123", "45", ",", "6"]);
    check("deepseek-v3", "1234 あい漢", &["123", "4", " ", "あい漢"]);
    check("bloom", "ab, cd", &["ab", ",", " cd"]);
}

fn check(name: &str, text: &str, expected: &[&str]) {
    let words = Words::new(PreTokenizer::named(name).unwrap());
    assert_eq!(words.cut(text), expected, "{name}: {text:?}");
}

/// The look-ahead that is done by hand against a plain reading of it: of a run of spaces, all but
/// the last where something else follows, and the run itself where it is one space long.
#[test]
fn spaces_before_a_word_leave_the_last_to_it() {
    let cutters: Vec<(&PreTokenizer, Words)> =
        TABLE.iter().map(|pre| (pre, Words::new(pre))).collect();
    let mut state = 1_u64;
    for _ in 0..2_000 {
        let mut text = String::new();
        for _ in 0..12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push(
                [' ', ' ', '\t', '\n', '\r', 'a', 'é', '1', '.', '\'', 's']
                    [(state >> 40) as usize % 11],
            );
        }
        for (pre, cutter) in &cutters {
            let words = cutter.cut(&text);
            assert_eq!(words.concat(), text, "{:?}", pre.names);
            assert!(words.iter().all(|word| !word.is_empty()));
            let tail = pre.patterns.last().is_some_and(|pattern| pattern.ends_with(SPACES_TAIL));
            for pair in words.windows(2).filter(|_| tail && pre.patterns.len() == 1) {
                let (spaces, next) = (pair[0], pair[1]);
                let is_spaces = spaces.chars().all(char::is_whitespace);
                let next_is_word = !next.starts_with(char::is_whitespace);
                let breaks = spaces.ends_with(['\r', '\n']);
                assert!(
                    !(is_spaces && next_is_word && !breaks && spaces.chars().count() > 1),
                    "{:?}: {words:?}",
                    pre.names
                );
            }
        }
    }
}

#[test]
fn every_entry_has_one_name_and_is_found_by_it() {
    for pre in &TABLE {
        for name in pre.names {
            let found = PreTokenizer::named(name).unwrap();
            assert!(std::ptr::eq(found.patterns, pre.patterns) || found.patterns == pre.patterns);
            assert_eq!(found.names, pre.names, "{name} names two entries");
        }
    }
    let error = PreTokenizer::named("kimi-k2").unwrap_err();
    assert_eq!(error.to_string(), "the pre-tokenizer \"kimi-k2\" is not supported");
}

//! Prompts are what the API would make of the same roles and texts.

use super::Texts;
use crate::item::{Fragment, Item, Reading, Tail};

pub(crate) fn item() -> Item {
    Item {
        id: "x".into(),
        question: 0,
        group: String::new(),
        root: None,
        fragments: vec![
            Fragment::passage("The ferry leaves at seven.\n"),
            Fragment { role: Some("user"), text: "I am on board.".into() },
        ],
        tail: Tail { user: "When does the ferry leave?".into(), begin: String::new() },
        answers: vec!["at seven".into(), "7".into()],
        reading: Reading::Line,
        max_tokens: 8,
    }
}

#[test]
fn with_a_template_turns_are_turns() {
    let texts = Texts::open("smollm2-135m").unwrap();
    let decode = |tokens: &[u32]| texts.tokenizer.decode(tokens, true);
    let prompt = texts.prompt(&item()).unwrap();
    assert_eq!(prompt.root[..], texts.turns.default_root());
    assert_eq!(decode(&prompt.placements[0]), "The ferry leaves at seven.\n");
    assert_eq!(decode(&prompt.placements[1]), "<|im_start|>user\nI am on board.<|im_end|>\n");
    let turn = "<|im_start|>user\nWhen does the ferry leave?<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(decode(&prompt.tail), turn);
    assert_eq!(decode(&prompt.gold), "at seven");
    let mut begun = item();
    begun.tail.begin = "It leaves".into();
    begun.root = Some("You know ferries.".into());
    let prompt = texts.prompt(&begun).unwrap();
    assert_eq!(decode(&prompt.tail), format!("{turn}It leaves"));
    assert_eq!(decode(&prompt.gold), " at seven");
    assert_eq!(decode(&prompt.root), "<|im_start|>system\nYou know ferries.<|im_end|>\n");
    assert_eq!(
        prompt.len(),
        prompt.root.len()
            + prompt.tail.len()
            + [0, 1].map(|i| prompt.placements[i].len()).iter().sum::<usize>()
    );
}

#[test]
fn without_a_template_words_mark_the_turns() {
    let texts = Texts::open("gemma-3-270m").unwrap();
    let prompt = texts.prompt(&item()).unwrap();
    let decode = |tokens: &[u32]| texts.tokenizer.decode(tokens, true);
    assert!(decode(&prompt.tail).ends_with("When does the ferry leave?\nAnswer:"));
    assert_eq!(decode(&prompt.gold), " at seven");
    assert_eq!(decode(&prompt.placements[1]), "user: I am on board.\n");
}

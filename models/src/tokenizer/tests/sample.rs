//! Vocabularies small enough to know by heart.

use crate::tokenizer::{SpacePrefix, TokenKind, Vocabulary, VocabularyModel, byte_alphabet};

/// Byte-level: all bytes, `he`, `ll`, `hell`, `hello`, ChatML's two tokens, a user-defined one,
/// and runs of line breaks.
pub(crate) fn byte_level() -> Vocabulary {
    let mut vocabulary = Vocabulary {
        model: VocabularyModel::ByteLevel,
        pre: "gpt-2".into(),
        ..Vocabulary::default()
    };
    for byte in 0..=255 {
        push(&mut vocabulary, &byte_alphabet::char_of(byte).to_string(), TokenKind::Normal);
    }
    for (left, right) in [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o")] {
        push(&mut vocabulary, &format!("{left}{right}"), TokenKind::Normal);
        vocabulary.merges.push((left.into(), right.into()));
    }
    for (text, kind) in [
        ("<|im_start|>", TokenKind::Control),
        ("<|im_end|>", TokenKind::Control),
        ("<tool>", TokenKind::UserDefined),
        ("\n\n", TokenKind::UserDefined),
        ("\n\n\n", TokenKind::UserDefined),
    ] {
        push(&mut vocabulary, text, kind);
    }
    vocabulary
}

/// SentencePiece-style, in the order of Llama 2's: unknown, BOS, EOS, bytes, pieces.
pub(crate) fn pieces() -> Vocabulary {
    let mut vocabulary = Vocabulary {
        model: VocabularyModel::Pieces,
        space_prefix: SpacePrefix::AfterSpecial,
        unknown: Some(0),
        bos: Some(1),
        eos: Some(2),
        add_bos: true,
        ..Vocabulary::default()
    };
    push(&mut vocabulary, "<unk>", TokenKind::Unknown);
    push(&mut vocabulary, "<s>", TokenKind::Control);
    push(&mut vocabulary, "</s>", TokenKind::Control);
    for byte in 0..=255 {
        push(&mut vocabulary, &format!("<0x{byte:02X}>"), TokenKind::Byte);
    }
    vocabulary.scores = vec![0.0; vocabulary.tokens.len()];
    let scored = [
        ("▁t", -1.0),
        ("he", -2.0),
        ("▁the", -3.0),
        ("▁c", -4.0),
        ("at", -5.0),
        ("ab", -6.0),
        ("bc", -7.0),
        ("aa", -8.0),
        ("</", -9.0),
        ("s>", -10.0),
    ];
    let letters = "▁abcehstmiduorlv</>[]\n".chars().map(|letter| (letter.to_string(), -1000.0));
    let scored = scored.into_iter().map(|(text, score)| (text.to_owned(), score));
    for (text, score) in scored.chain(letters) {
        push(&mut vocabulary, &text, TokenKind::Normal);
        vocabulary.scores.push(score);
    }
    vocabulary
}

fn push(vocabulary: &mut Vocabulary, text: &str, kind: TokenKind) {
    vocabulary.tokens.push(text.into());
    vocabulary.kinds.push(kind);
}

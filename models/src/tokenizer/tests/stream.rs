//! Streams give what decoding at once gives, whatever the tokens.

use super::sample::{byte_level, pieces};
use crate::tokenizer::{TextStream, Tokenizer};
use proptest::prelude::*;
use std::sync::Arc;

fn check(tokenizer: &Arc<Tokenizer>, ids: &[u32]) {
    let mut stream = TextStream::new(tokenizer.clone());
    let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(*id)).collect();
    let decoded = tokenizer.decode(ids, false);
    // Nothing but a character still open may be held back.
    let open: usize = decoded.len() - pieces.iter().map(String::len).sum::<usize>();
    assert!(open <= 3, "{ids:?}: {open} bytes held back");
    pieces.push(stream.finish());
    assert_eq!(pieces.concat(), decoded, "{ids:?}");
    assert_eq!(stream.finish(), "");
}

proptest! {
    #[test]
    fn a_stream_gives_what_decoding_gives(
        ids in prop::collection::vec(0_u32..330, 0..40),
    ) {
        check(&Arc::new(Tokenizer::new(byte_level()).unwrap()), &ids);
        check(&Arc::new(Tokenizer::new(pieces()).unwrap()), &ids);
    }

    #[test]
    fn any_text_comes_back(text in ".{0,60}") {
        // SentencePiece cannot tell its own mark from a space.
        let text = text.replace('▁', "_");
        for vocabulary in [byte_level(), pieces()] {
            let tokenizer = Tokenizer::new(vocabulary).unwrap();
            let ids = tokenizer.encode(&text, false);
            prop_assert_eq!(tokenizer.decode(&ids, false), text.as_str());
            prop_assert!(ids.iter().all(|id| !tokenizer.is_special(*id)));
        }
    }
}

#[test]
fn characters_are_never_split() {
    let tokenizer = Arc::new(Tokenizer::new(byte_level()).unwrap());
    let ids = tokenizer.encode("a🙂b", false);
    let mut stream = TextStream::new(tokenizer.clone());
    let pieces: Vec<String> = ids.iter().map(|id| stream.push(*id)).collect();
    assert_eq!(pieces, ["a", "", "", "", "🙂", "b"]);
    // A special token between the bytes of a character does not break it.
    let special = tokenizer.encode("<|im_start|>", true)[0];
    let mut stream = TextStream::new(tokenizer);
    let pieces: Vec<String> =
        [ids[1], ids[2], special, ids[3], ids[4]].iter().map(|id| stream.push(*id)).collect();
    assert_eq!(pieces, ["", "", "", "", "🙂"]);
}

#[test]
fn what_is_no_utf8_becomes_replacement_characters() {
    let tokenizer = Arc::new(Tokenizer::new(byte_level()).unwrap());
    let mut stream = TextStream::new(tokenizer.clone());
    assert_eq!(stream.push(0xFF), "\u{FFFD}");
    assert_eq!(stream.push(0xF0), "");
    assert_eq!(stream.push(u32::from(b'a')), "\u{FFFD}a");
    assert_eq!(stream.push(0xE4), "");
    assert_eq!(stream.finish(), "\u{FFFD}");
    assert_eq!(tokenizer.decode(&[0xFF, u32::MAX], true), "\u{FFFD}");
}

#[test]
fn a_continuing_stream_keeps_its_first_space() {
    let tokenizer = Arc::new(Tokenizer::new(pieces()).unwrap());
    let the = tokenizer.encode("the", false)[0];
    assert_eq!(TextStream::new(tokenizer.clone()).push(the), "the");
    assert_eq!(TextStream::continuing(tokenizer).push(the), " the");
}

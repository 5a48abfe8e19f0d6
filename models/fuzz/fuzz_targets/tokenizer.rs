//! Any bytes as `tokenizer.json`, and as a GGUF file's vocabulary: an error, or a tokenizer that
//! encodes and decodes without panicking and never makes a control token of plain text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use models::gguf::Header;
use models::{Tokenizer, TokenizerFiles};

const TEXT: &str = "hello <|im_start|> the</s> cat\n\n\n é🙂 12  '";

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = Header::parse(bytes)
        && let Ok(tokenizer) = Tokenizer::from_gguf(&header.metadata)
    {
        exercise(&tokenizer);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let files = TokenizerFiles { tokenizer: text, config: Some(text), generation: Some(text) };
        if let Ok(tokenizer) = Tokenizer::from_json(&files) {
            exercise(&tokenizer);
        }
    }
});

fn exercise(tokenizer: &Tokenizer) {
    let plain = tokenizer.encode(TEXT, false);
    assert!(plain.iter().all(|id| (*id as usize) < tokenizer.vocab()));
    tokenizer.decode(&plain, true);
    let special = tokenizer.encode(TEXT, true);
    tokenizer.decode(&special, false);
    tokenizer.decode(&[0, 1, 2, u32::MAX], true);
}

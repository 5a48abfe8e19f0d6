//! Token ids over real vocabularies, equal to llama.cpp's on the same files.

use crate::checkpoint;
use models::{TextStream, Tokenizer};
use std::sync::Arc;

/// One text and its ids, with special tokens parsed and without.
#[derive(serde::Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    ids_no_special: Vec<u32>,
}

#[test]
fn smollm2_ids_are_llama_cpps() {
    check("smollm2-135m", include_str!("../data/tokenize/smollm2-135m.json"), &[0, 2, 4]);
}

#[test]
fn qwen_ids_are_llama_cpps() {
    let cases = include_str!("../data/tokenize/qwen2.5-coder-0.5b.json");
    check("qwen2.5-coder-0.5b", cases, &[151_643, 151_645, 151_662, 151_663, 151_664]);
}

#[test]
fn gemma_ids_are_llama_cpps() {
    check("gemma-3-270m", include_str!("../data/tokenize/gemma-3-270m.json"), &[1, 106]);
}

fn check(model: &str, cases: &str, end_tokens: &[u32]) {
    let gguf = checkpoint::gguf(model);
    let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf.metadata).expect(model));
    let cases: Vec<Case> = serde_json::from_str(cases).expect(model);
    assert!(cases.len() >= 10);
    for Case { text, ids, ids_no_special } in cases {
        assert_eq!(tokenizer.encode(&text, true), ids, "{model}, special: {text:?}");
        assert_eq!(tokenizer.encode(&text, false), ids_no_special, "{model}, plain: {text:?}");
        check_back(&tokenizer, &text, &ids);
    }
    assert_eq!(tokenizer.end_tokens(), end_tokens, "{model}");
    check_long(&tokenizer);
}

/// Decoding gives the text back, at once and token by token. (A vocabulary may lack bytes:
/// SmolLM2's has no token for U+0004, but the cases have only bytes that it has.)
fn check_back(tokenizer: &Arc<Tokenizer>, text: &str, ids: &[u32]) {
    assert_eq!(tokenizer.decode(ids, true), text);
    let mut stream = TextStream::new(tokenizer.clone());
    let mut streamed: String = ids.iter().map(|id| stream.push(*id)).collect();
    streamed += &stream.finish();
    assert_eq!(streamed, tokenizer.decode(ids, false));
}

/// Long texts of every kind come back, in time proportional to their length: anything quadratic
/// takes minutes here and is seen without a clock.
fn check_long(tokenizer: &Tokenizer) {
    let pieces =
        ["word and word, ", " ", "a", "\n", "\n \n", "<|im_end|>", "é京🙂", "1", "'s", "<"];
    for piece in pieces {
        let text = piece.repeat(400_000 / piece.len());
        let ids = tokenizer.encode(&text, true);
        assert!(tokenizer.decode(&ids, true) == text, "{piece:?} repeated");
    }
}

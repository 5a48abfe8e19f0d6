//! Loading: the same model from either container, and what is said about it.

use crate::desk::{Desk, TINY, difference, load, options, tiny, tokens};
use crate::files::Folder;
use crate::gguf_writer::{converted, smallest};
use models::{Array, Decoder, Gguf, LoadOptions, Model, Value};

/// Containers differ in names, in the order of Q and K, in Gemma's norms, and in where scaling of
/// rotation is written; none of that may show.
#[test]
fn a_gguf_file_gives_the_same_as_its_safetensors() {
    let folder = Folder::new("containers");
    for arch in TINY {
        let path = folder.write(&format!("{arch}.gguf"), converted(arch).bytes());
        let (gguf, info) = Decoder::load(&path, &options(), &[0; 32])
            .unwrap_or_else(|error| panic!("{arch}: {error}"));
        assert_eq!((info.name.as_str(), info.quantization.as_str()), (arch, "F32"));
        let text = tokens(20, 70, 256);
        let (_, want) = Desk::new(load(arch, &options())).write(&text, 0, &[], usize::MAX);
        let (_, got) = Desk::new(gguf).write(&text, 0, &[], usize::MAX);
        let error = difference(&want, &got, 256);
        assert!(error < 2e-4, "{arch}: {error}");
    }
}

#[test]
fn a_model_tells_what_it_is() {
    let (decoder, info) = Decoder::load(&tiny("gemma3"), &options(), &[0; 32]).unwrap();
    assert_eq!((info.name.as_str(), info.arch.as_str()), ("gemma3", "gemma3_text"));
    assert_eq!((info.quantization.as_str(), info.context_train), ("F32", 2048));
    assert_eq!(info.file_bytes, 1_288_688);
    let header = info.file_bytes - info.parameters * 4;
    assert!((8..20_000).contains(&header), "all but the header is numbers: {header}");
    let shape = decoder.shape();
    assert_eq!((shape.vocab, shape.layers, shape.context_max), (256, 7, 2048));
    assert_eq!(shape.page_bytes, 2 * 7 * 2 * 32 * 32 * 4);
    assert_eq!(shape.pages, (64 << 20) / shape.page_bytes);
    assert_eq!(shape.logits_rows_max, 256);
}

#[test]
fn metadata_is_read_with_its_types() {
    let folder = Folder::new("metadata");
    let mut file = smallest();
    file.raw("t.bool", 7, vec![1]);
    file.raw("t.u64", 10, u64::MAX.to_le_bytes().into());
    file.raw("t.i8", 1, vec![0xFE]);
    file.raw("t.f64", 12, 0.5f64.to_le_bytes().into());
    let array = |kind: u32, count: u64, bytes: &[u8]| {
        [&kind.to_le_bytes()[..], &count.to_le_bytes(), bytes].concat()
    };
    file.raw("t.ints", 9, array(5, 2, &[1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]));
    file.raw("t.floats", 9, array(6, 1, &0.25f32.to_le_bytes()));
    file.raw("t.texts", 9, array(8, 1, &crate::gguf_writer::string("ŋ".as_bytes())));
    let gguf = Gguf::open(&folder.write("m.gguf", file.bytes())).unwrap();
    let m = &gguf.metadata;
    assert_eq!(m.get("t.u64"), Some(&Value::Uint(u64::MAX)));
    assert_eq!(m.get("t.i8"), Some(&Value::Int(-2)));
    assert_eq!(m.get("t.ints"), Some(&Value::Array(Array::Ints(vec![1, -1]))));
    assert_eq!(m.bool("t.bool").unwrap(), Some(true));
    assert_eq!(m.f32("t.f64").unwrap(), Some(0.5));
    assert_eq!(m.floats("t.floats").unwrap(), Some(&[0.25][..]));
    assert_eq!(m.strings("t.texts").unwrap(), Some(&["ŋ".to_owned()][..]));
    assert_eq!(m.u32("llama.block_count").unwrap(), Some(1));
    assert_eq!(m.str("absent").unwrap(), None);
    let error = m.u32("t.u64").unwrap_err().to_string();
    assert!(error.contains("t.u64") && error.contains("32 bits"), "{error}");
}

#[test]
fn options_that_cannot_be_met_are_refused() {
    let refused = |options: &LoadOptions, expected: &str| {
        let error = Decoder::load(&tiny("llama"), options, &[0; 32]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} should say {expected:?}");
    };
    refused(&LoadOptions { context_max: Some(4096), ..options() }, "1 to 2048");
    refused(&LoadOptions { context_max: Some(0), ..options() }, "1 to 2048");
    refused(&LoadOptions { kv_bytes: 100, ..options() }, "hold no page");
    refused(&LoadOptions { page_rows: 0, ..options() }, "pages of 0 rows");
    refused(&LoadOptions { batch_rows_max: 0, ..options() }, "at most 0 rows");
}

#[test]
fn a_shorter_context_is_kept_to() {
    let options = LoadOptions { context_max: Some(99), ..options() };
    assert_eq!(load("llama", &options).shape().context_max, 99);
}

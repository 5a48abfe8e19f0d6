//! GGUF files that are cut, wild or wrong: each is refused with an error that names the thing.

use crate::desk::{mix, options};
use crate::files::Folder;
use crate::gguf_writer::{GgufWriter, Q8_0, smallest, string};
use models::Decoder;
use models::gguf::Header;

type Spoil = fn(&mut GgufWriter);

/// Headers no reader may believe: what is done to the smallest file, and what the error must say.
const HEADERS: &[(&str, Spoil)] = &[
    ("the magic number", |f| f.magic = *b"GGML"),
    ("version 1 is not supported", |f| f.version = 1),
    ("version 4 is not supported", |f| f.version = 4),
    ("big endian", |f| f.version = 3u32.swap_bytes()),
    ("metadata of 18446744073709551615 pairs", |f| f.pair_count = Some(u64::MAX)),
    ("metadata of 1099511627776 pairs", |f| f.pair_count = Some(1 << 40)),
    ("18446744073709551615 tensor entries", |f| f.tensor_count = Some(u64::MAX)),
    ("1099511627776 tensor entries", |f| f.tensor_count = Some(1 << 40)),
    ("\"wild\" needs 18446744073709551615 bytes", |f| {
        f.raw("wild", 8, u64::MAX.to_le_bytes().into());
    }),
    ("\"wild\" with 18446744073709551615 elements", |f| f.raw("wild", 9, array(6, u64::MAX))),
    ("\"wild\" with 2305843009213693952 elements", |f| f.raw("wild", 9, array(8, 1 << 61))),
    ("\"deep\" holds arrays in an array", |f| f.raw("deep", 9, array(9, 1))),
    ("\"odd\" holds an unknown type (type id 77)", |f| f.raw("odd", 9, array(77, 1))),
    ("\"odd\" has unknown type id 13", |f| f.raw("odd", 13, vec![0; 8])),
    ("\"odd\" holds 2 as a bool", |f| f.raw("odd", 7, vec![2])),
    ("\"odd\" exceeds 63 bits", |f| {
        f.raw("odd", 9, [&array(10, 1)[..], &u64::MAX.to_le_bytes()].concat());
    }),
    ("the value of metadata key \"odd\" at byte", |f| f.raw("odd", 8, string(&[0xFF, 0xFE]))),
    ("metadata key 0 at byte 32 is not UTF-8", |f| f.pairs[0].key = vec![0xC0]),
    ("\"general.name\" appears twice", |f| f.pairs.push(f.pairs[1].clone())),
    ("\"general.alignment\": 0 is not a power of two", |f| f.u32("general.alignment", 0)),
    ("\"general.alignment\": 48 is not a power of two", |f| f.u32("general.alignment", 48)),
    ("\"general.alignment\": 2147483648", |f| f.u32("general.alignment", 1 << 31)),
    ("\"general.alignment\": expected an integer", |f| f.text("general.alignment", "32")),
    ("\"blk.0.attn_q.weight\": has 0 dimensions", |f| q(f).dims.clear()),
    ("\"blk.0.attn_q.weight\": has 5 dimensions", |f| q(f).dims = vec![1; 5]),
    ("\"blk.0.attn_q.weight\": has a dimension of no elements", |f| q(f).dims = vec![16, 0]),
    ("\"blk.0.attn_q.weight\": the product of its dimensions", |f| q(f).dims = vec![1 << 40; 2]),
    ("\"blk.0.attn_q.weight\": its size in bytes overflows", |f| q(f).dims = vec![1 << 62]),
    ("\"blk.0.attn_q.weight\": its data ends beyond the file", |f| q(f).dims = vec![16, 1 << 30]),
    ("\"blk.0.attn_q.weight\": unknown type id 99", |f| q(f).kind = 99),
    ("\"blk.0.attn_q.weight\": type Q2_K (id 10) is not supported", |f| q(f).kind = 10),
    ("\"blk.0.attn_q.weight\": rows of 16 are not whole blocks of 32", |f| q(f).kind = Q8_0),
    ("\"blk.0.attn_q.weight\": its offset 33 is no multiple", |f| q(f).offset = Some(33)),
    ("\"blk.0.attn_q.weight\": its data ends beyond the file", |f| {
        q(f).offset = Some(u64::MAX - 31);
    }),
    ("\"blk.0.attn_q.weight\": its data ends beyond the file", |f| q(f).offset = Some(1 << 20)),
    ("overlaps that of", |f| q(f).offset = Some(0)),
    ("\"blk.0.attn_q.weight\": appears twice", |f| {
        let twin = q(f).clone();
        f.tensors.push(twin);
    }),
];

/// Files whose header is right and whose model is not.
const MODELS: &[(&str, Spoil)] = &[
    ("unknown architecture \"foo\"", |f| f.text("general.architecture", "foo")),
    ("missing configuration key \"general.architecture\"", |f| f.drop_key("general.architecture")),
    ("\"general.type\": \"adapter\" is not a model", |f| f.text("general.type", "adapter")),
    ("\"split.count\": one of 3 parts", |f| f.u32("split.count", 3)),
    ("missing configuration key \"llama.block_count\"", |f| f.drop_key("llama.block_count")),
    ("\"llama.block_count\": 1073741824 layers", |f| wild(f, "block_count")),
    ("\"llama.block_count\": expected an integer", |f| f.text("llama.block_count", "1")),
    ("\"llama.context_length\": expected an integer", |f| f.u32("llama.context_length", 0)),
    ("\"llama.attention.head_count_kv\": 3 does not divide 2", |f| {
        f.u32("llama.attention.head_count_kv", 3);
    }),
    ("\"llama.attention.head_count\": 3 does not divide 16", |f| {
        f.u32("llama.attention.head_count", 3);
        f.u32("llama.attention.head_count_kv", 3);
    }),
    ("\"llama.attention.key_length\": 7 is not an even number", |f| {
        f.u32("llama.attention.key_length", 7);
    }),
    ("\"llama.attention.key_length\": 1073741824", |f| wild(f, "attention.key_length")),
    ("\"llama.attention.value_length\": 4 differs", |f| f.u32("llama.attention.value_length", 4)),
    ("\"llama.rope.dimension_count\": 4", |f| f.u32("llama.rope.dimension_count", 4)),
    ("\"llama.rope.scaling.type\": \"yarn\" is not supported", |f| {
        f.text("llama.rope.scaling.type", "yarn");
    }),
    ("\"llama.rope.freq_base\": expected a positive number", |f| {
        f.f32("llama.rope.freq_base", f32::NAN);
    }),
    ("\"llama.attention.layer_norm_rms_epsilon\": expected a positive", |f| {
        f.f32("llama.attention.layer_norm_rms_epsilon", -1.0);
    }),
    ("unknown configuration key \"llama.expert_count\"", |f| f.u32("llama.expert_count", 8)),
    ("missing tensor \"blk.0.ffn_up.weight\"", |f| f.drop_tensor("blk.0.ffn_up.weight")),
    ("missing tensor \"token_embd.weight\"", |f| f.drop_tensor("token_embd.weight")),
    ("missing tensor \"blk.1.attn_norm.weight\"", |f| f.u32("llama.block_count", 2)),
    ("\"blk.0.attn_q.weight\" has shape [8, 32], the configuration asks for [16, 16]", |f| {
        q(f).dims = vec![32, 8];
    }),
    ("\"token_embd.weight\" has shape [16, 8]", |f| {
        f.tensor("token_embd.weight").dims = vec![8, 16];
    }),
    ("\"token_embd.weight\" has shape [8, 16], the configuration asks for [9, 16]", |f| {
        f.u32("llama.vocab_size", 9);
    }),
    ("\"blk.0.ffn_gate.weight\" has shape [24, 16]", |f| wild(f, "feed_forward_length")),
    ("tensor \"blk.0.attn_q.bias\" has no place", |f| {
        f.floats("blk.0.attn_q.bias", &[16], &[0.0; 16]);
    }),
    ("\"output_norm.weight\": holds a number that is not finite", |f| {
        f.tensor("output_norm.weight").data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    }),
    ("\"rope_freqs.weight\" has shape [3]", |f| {
        f.floats("rope_freqs.weight", &[3], &[1.0; 3]);
    }),
    ("\"rope_freqs.weight\": holds a factor that is not positive", |f| {
        f.floats("rope_freqs.weight", &[4], &[0.0; 4]);
    }),
];

fn q(file: &mut GgufWriter) -> &mut crate::gguf_writer::TensorToWrite {
    file.tensor("blk.0.attn_q.weight")
}

fn wild(file: &mut GgufWriter, key: &str) {
    file.u32(&format!("llama.{key}"), 1 << 30);
}

fn array(kind: u32, count: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat()
}

fn spoiled(spoil: Spoil) -> GgufWriter {
    let mut file = smallest();
    spoil(&mut file);
    file
}

#[test]
fn the_smallest_file_is_right() {
    let folder = Folder::new("smallest");
    let path = folder.write("smallest.gguf", smallest().bytes());
    let (_, info) = Decoder::load(&path, &options(), &[0; 32]).unwrap();
    assert_eq!((info.name.as_str(), info.arch.as_str()), ("smallest", "llama"));
    let mut old = smallest();
    old.version = 2;
    assert!(Header::parse(&old.bytes()).is_ok(), "version 2");
}

#[test]
fn wild_headers_are_refused_by_name() {
    for (expected, spoil) in HEADERS {
        let error = Header::parse(&spoiled(*spoil).bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} should say {expected:?}");
    }
}

#[test]
fn wrong_models_are_refused_by_name() {
    let folder = Folder::new("wrong-models");
    for (expected, spoil) in MODELS {
        let path = folder.write("wrong.gguf", spoiled(*spoil).bytes());
        let error = Decoder::load(&path, &options(), &[0; 32]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} should say {expected:?}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let (file, header) = (smallest().bytes(), smallest().header().len());
    for cut in 0..file.len() {
        let error = Header::parse(&file[..cut]).unwrap_err().to_string();
        let named = if cut < header { "truncated at byte" } else { "ends beyond the file" };
        assert!(error.contains(named), "cut at {cut} of {header}: {error}");
    }
}

/// What the fuzzer does, in small and always the same: no input makes the parser or the loader
/// panic, and what they accept can be read.
#[test]
fn mutated_files_never_panic() {
    let (file, header) = (smallest().bytes(), smallest().header().len());
    let folder = Folder::new("mutated-gguf");
    let mut accepted = 0;
    for seed in 0..4000 {
        let mutated = mutate(&file, header, seed);
        let Ok(parsed) = Header::parse(&mutated) else { continue };
        accepted += 1;
        for entry in parsed.tensors.values() {
            let _ = mutated[entry.range.clone()].iter().map(|&b| u64::from(b)).sum::<u64>();
        }
        if seed % 8 == 0 {
            let path = folder.write("mutated.gguf", &mutated);
            let _ = Decoder::load(&path, &options(), &[0; 32]);
        }
    }
    assert!(accepted > 100, "only {accepted} of 4000 came past the header: mutate less");
}

/// A few bytes of the first `reach` changed, or a piece cut out or doubled.
pub(crate) fn mutate(file: &[u8], reach: usize, seed: u64) -> Vec<u8> {
    let mut counter = seed << 16;
    let mut draw = |below: usize| {
        counter += 1;
        (mix(counter) % below as u64) as usize
    };
    let mut out = file.to_vec();
    for _ in 0..=draw(3) {
        let at = draw(reach);
        match draw(6) {
            0 => out[at] ^= 1 << draw(8),
            1 => out[at] = [0, 1, 0x7F, 0x80, 0xFF][draw(5)],
            2 => {
                let end = out.len().min(at + 8);
                out[at..end].fill(0xFF);
            }
            3 => out[at] = out[at].wrapping_add(1),
            4 => {
                let end = out.len().min(at + 1 + draw(16));
                out.drain(at..end);
            }
            _ => {
                let end = out.len().min(at + 1 + draw(16));
                let piece = out[at..end].to_vec();
                out.splice(at..at, piece);
            }
        }
    }
    out
}

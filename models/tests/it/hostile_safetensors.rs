//! Safetensors files and configurations that are cut, wild or wrong: each is refused with an error
//! that names the thing.

use crate::desk::{TINY, options, tiny};
use crate::files::Folder;
use crate::hostile_gguf::mutate;
use models::{Decoder, safetensors};
use serde_json::{Value, json};

/// Headers no reader may believe, over 16 bytes of data, and what the error must say.
const HEADERS: &[(&str, &str)] = &[
    ("", "malformed safetensors"),
    ("{", "malformed safetensors"),
    ("[]", "malformed safetensors"),
    (r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":1}"#, "tensor \"b\""),
    (r#"{"a":{"dtype":"F32","shape":[4]}}"#, "tensor \"a\": has no data_offsets"),
    (r#"{"a":{"dtype":"F32","shape":[5],"data_offsets":[0,16]}}"#, "tensor \"a\": its shape [5]"),
    (
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,32]}}"#,
        "tensor \"a\": its data ends beyond the file",
    ),
    (
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,18446744073709551615]}}"#,
        "tensor \"a\": its data ends beyond the file",
    ),
    (
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}"#,
        "tensor \"a\": its data_offsets [16, 0] do not follow",
    ),
    (
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#,
        "tensor \"a\": its data_offsets [8, 16] do not follow byte 0",
    ),
    (
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        "tensors end at byte 8 of the data, the file at 16",
    ),
    (
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},
            "b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#,
        "do not follow byte 16",
    ),
    (
        r#"{"a":{"dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,16]}}"#,
        "tensor \"a\": its shape",
    ),
    (
        r#"{"a":{"dtype":"F99","shape":[4],"data_offsets":[0,16]}}"#,
        "tensor \"a\": unknown variant `F99`",
    ),
    (
        r#"{"a":{"dtype":"I32","shape":[4],"data_offsets":[0,16]}}"#,
        "tensor \"a\": type I32 is not supported",
    ),
];

/// Changes to Llama's configuration, and what the error must say.
const CONFIGS: &[(&str, &str, &str)] = &[
    ("/model_type", "\"foo\"", "unknown architecture \"foo\""),
    ("/model_type", "null", "missing configuration key \"model_type\""),
    ("/hidden_act", "\"relu\"", "\"hidden_act\": \"relu\" is not supported"),
    ("/attention_bias", "true", "\"attention_bias\": true is not supported"),
    ("/mlp_bias", "true", "\"mlp_bias\": true is not supported"),
    ("/num_hidden_layers", "1e9", "\"num_hidden_layers\": expected an integer"),
    ("/num_hidden_layers", "1000000000", "\"num_hidden_layers\": 1000000000 layers"),
    ("/num_hidden_layers", "5", "missing tensor \"model.layers.4.input_layernorm.weight\""),
    ("/num_hidden_layers", "3", "tensor \"model.layers.3.input_layernorm.weight\" has no place"),
    ("/hidden_size", "-64", "\"hidden_size\": expected an integer"),
    ("/hidden_size", "128", "\"model.embed_tokens.weight\" has shape [256, 64]"),
    ("/vocab_size", "257", "\"model.embed_tokens.weight\" has shape [256, 64]"),
    ("/intermediate_size", "95", "\"model.layers.0.mlp.gate_proj.weight\" has shape [96, 64]"),
    ("/rms_norm_eps", "0", "\"rms_norm_eps\": expected a positive number"),
    ("/max_position_embeddings", "null", "missing configuration key \"max_position_embeddings\""),
    ("/quantization_config", "{}", "unknown configuration key \"quantization_config\""),
    ("/sliding_window", "32", "unknown configuration key \"sliding_window\""),
    ("/rope_parameters/rope_type", "\"yarn\"", "\"rope_parameters.rope_type\": \"yarn\""),
    ("/rope_parameters/rope_type", "\"linear\"", "key \"rope_parameters.factor\""),
    ("/rope_parameters/attention_factor", "2", "key \"rope_parameters.attention_factor\""),
    ("/rope_parameters/partial_rotary_factor", "0.5", "0.5 is not supported"),
    ("/rope_scaling", r#"{"type":"linear","factor":2}"#, "\"rope_scaling\": contradicts"),
    ("/tie_word_embeddings", "\"no\"", "\"tie_word_embeddings\": expected true or false"),
];

fn file(header: &str, data: usize) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.resize(out.len() + data, 0);
    out
}

fn refused(folder: &Folder, expected: &str) {
    let error = Decoder::load(folder.path(), &options(), &[0; 32]).unwrap_err().to_string();
    assert!(error.contains(expected), "{error:?} should say {expected:?}");
}

/// A tiny model's folder with a change to its configuration.
fn changed(folder: &Folder, arch: &str, pointer: &str, value: Value) {
    let text = std::fs::read_to_string(tiny(arch).join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    config.pointer_mut(parent).unwrap()[key] = value;
    folder.write("config.json", config.to_string());
    folder.write("model.safetensors", std::fs::read(tiny(arch).join("model.safetensors")).unwrap());
}

#[test]
fn wild_headers_are_refused_by_name() {
    for (header, expected) in HEADERS {
        let error = safetensors::parse(&file(header, 16)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} should say {expected:?}");
    }
    let lengths = [
        (u64::MAX, "exceeds the format's 100 MB"),
        (1 << 40, "exceeds the format's 100 MB"),
        (99_000_000, "truncated at byte 8: the header needs 99000000 bytes, 2 are left"),
    ];
    for (length, expected) in lengths {
        let bytes = [&length.to_le_bytes()[..], b"{}"].concat();
        let error = safetensors::parse(&bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} should say {expected:?}");
    }
}

#[test]
fn wrong_configurations_are_refused_by_name() {
    let folder = Folder::new("wrong-configurations");
    for (pointer, value, expected) in CONFIGS {
        changed(&folder, "llama", pointer, serde_json::from_str(value).unwrap());
        refused(&folder, expected);
    }
    for (arch, pointer, value, expected) in [
        ("qwen2", "/use_sliding_window", json!(true), "\"use_sliding_window\": true"),
        ("qwen3", "/layer_types/2", json!("sliding_attention"), "\"layer_types\""),
        ("gemma3", "/layer_types/2", json!("linear_attention"), "\"layer_types\""),
        ("gemma3", "/layer_types", json!(["full_attention"]), "1 entries for 7 layers"),
        ("gemma3", "/hidden_activation", json!("gelu"), "\"hidden_activation\": \"gelu\""),
        ("gemma3", "/use_bidirectional_attention", json!(true), "\"use_bidirectional_attention\""),
        ("gemma3", "/rope_parameters/other", json!({}), "key \"rope_parameters.other\""),
        ("llama-rope3", "/rope_parameters/high_freq_factor", json!(1.0), "1 is not above 1"),
    ] {
        if pointer.starts_with("/layer_types/") {
            let mut types: Vec<Value> = vec![json!("full_attention"); 4];
            types.resize(if arch == "gemma3" { 7 } else { 4 }, json!("full_attention"));
            types[2] = value;
            changed(&folder, arch, "/layer_types", types.into());
        } else {
            changed(&folder, arch, pointer, value);
        }
        refused(&folder, expected);
    }
}

/// The older spelling of rotation means the same.
#[test]
fn both_spellings_of_rotation_are_read() {
    let folder = Folder::new("spellings");
    for arch in TINY {
        let text = std::fs::read_to_string(tiny(arch).join("config.json")).unwrap();
        let mut config: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
        let mut parameters = config.remove("rope_parameters").unwrap();
        if let Some(local) = parameters.get("sliding_attention") {
            config.insert("rope_local_base_freq".into(), local["rope_theta"].clone());
            parameters = parameters["full_attention"].clone();
        }
        let theta = parameters.as_object_mut().unwrap().remove("rope_theta").unwrap();
        config.insert("rope_theta".into(), theta);
        let plain = parameters["rope_type"] == "default";
        config.insert("rope_scaling".into(), if plain { Value::Null } else { parameters });
        folder.write("config.json", Value::from(config).to_string());
        let weights = std::fs::read(tiny(arch).join("model.safetensors")).unwrap();
        folder.write("model.safetensors", weights);
        let (old, _) = Decoder::load(folder.path(), &options(), &[0; 32])
            .unwrap_or_else(|error| panic!("{arch}: {error}"));
        let text = crate::desk::tokens(30, 40, 256);
        let all = usize::MAX;
        let (_, got) = crate::desk::Desk::new(old).write(&text, 0, &[], all);
        let new = crate::desk::load(arch, &options());
        let (_, want) = crate::desk::Desk::new(new).write(&text, 0, &[], all);
        assert!(crate::desk::same_bits(&want, &got), "{arch}");
    }
}

#[test]
fn shards_are_one_model() {
    let folder = Folder::new("shards");
    let bytes = std::fs::read(tiny("llama").join("model.safetensors")).unwrap();
    let whole = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let (first, second): (Vec<_>, Vec<_>) =
        whole.tensors().into_iter().partition(|(name, _)| name.contains("layers.1"));
    let mut map = serde_json::Map::new();
    for (file, part) in [("a.safetensors", first), ("b.safetensors", second)] {
        map.extend(part.iter().map(|(name, _)| (name.clone(), json!(file))));
        folder.write(file, ::safetensors::serialize(part, None).unwrap());
    }
    folder.write("config.json", std::fs::read(tiny("llama").join("config.json")).unwrap());
    let index = "model.safetensors.index.json";
    folder.write(index, json!({"metadata": {}, "weight_map": map}).to_string());
    let (shards, _) = Decoder::load(folder.path(), &options(), &[0; 32]).unwrap();
    let text = crate::desk::tokens(31, 20, 256);
    let (_, got) = crate::desk::Desk::new(shards).write(&text, 0, &[], usize::MAX);
    let one = crate::desk::load("llama", &options());
    let (_, want) = crate::desk::Desk::new(one).write(&text, 0, &[], usize::MAX);
    assert!(crate::desk::same_bits(&want, &got), "logits");

    map.insert("ghost".into(), json!("a.safetensors"));
    folder.write(index, json!({"weight_map": map}).to_string());
    refused(&folder, "missing tensor \"ghost\"");
    folder.write(index, json!({"weight_map": {"a": "../a.safetensors"}}).to_string());
    refused(&folder, "\"../a.safetensors\" is not a plain file name");
    folder.write(index, "{}");
    refused(&folder, "missing field `weight_map`");
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let header = r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;
    let bytes = file(header, 16);
    assert!(safetensors::parse(&bytes).is_ok(), "whole");
    for cut in 0..bytes.len() {
        let error = safetensors::parse(&bytes[..cut]).unwrap_err().to_string();
        let named = if cut < 8 + header.len() { "truncated at byte" } else { "beyond the file" };
        assert!(error.contains(named), "cut at {cut}: {error}");
    }
}

#[test]
fn mutated_files_never_panic() {
    let header = r#"{"__metadata__":{"format":"pt"},
        "a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},
        "b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]}}"#;
    let bytes = file(header, 22);
    assert!(safetensors::parse(&bytes).is_ok(), "whole");
    let reach = bytes.len() - 22;
    for seed in 0..4000 {
        let mutated = mutate(&bytes, reach, seed);
        let Ok(tensors) = safetensors::parse(&mutated) else { continue };
        for entry in tensors.values() {
            let _ = mutated[entry.range.clone()].iter().map(|&b| u64::from(b)).sum::<u64>();
        }
    }
}

#[test]
fn paths_that_are_no_model_are_refused() {
    let folder = Folder::new("no-model");
    refused(&folder, "holds neither model.safetensors nor");
    let path = folder.write("model.bin", "GGUF");
    let error = Decoder::load(&path, &options(), &[0; 32]).unwrap_err().to_string();
    assert!(error.contains("neither a .gguf file"), "{error}");
    let path = folder.path().join("absent.gguf");
    let error = Decoder::load(&path, &options(), &[0; 32]).unwrap_err().to_string();
    assert!(error.contains("absent.gguf"), "{error}");
    let path = folder.write("empty.gguf", "");
    let error = Decoder::load(&path, &options(), &[0; 32]).unwrap_err().to_string();
    assert!(error.contains("truncated at byte 0"), "{error}");
}

//! One file per family of architectures: each maps its configuration to a [`Description`].
//!
//! Adding an architecture is one file here, and one line in each table of this one.

mod gemma3;
mod llama;
mod qwen2;
mod qwen3;

use crate::config::Keys;
use crate::description::Description;
use crate::{LoadError, Metadata, Weights};

type Describe = fn(&Keys, &Weights) -> Result<Description, LoadError>;

/// By `general.architecture`.
const GGUF: &[(&str, Describe)] = &[
    ("llama", llama::of_gguf),
    ("qwen2", qwen2::of_gguf),
    ("qwen3", qwen3::of_gguf),
    ("gemma3", gemma3::of_gguf),
];

/// By `model_type`.
const JSON: &[(&str, Describe)] = &[
    ("llama", llama::of_json),
    ("mistral", llama::of_mistral_json),
    ("qwen2", qwen2::of_json),
    ("qwen3", qwen3::of_json),
    ("gemma3_text", gemma3::of_json),
];

/// The architecture of a GGUF file, and its description.
pub(crate) fn of_gguf(
    metadata: &Metadata,
    weights: &Weights,
) -> Result<(String, Description), LoadError> {
    if let Some(kind) = metadata.str("general.type")?.filter(|&kind| kind != "model") {
        return Err(LoadError::bad_value("general.type", format!("{kind:?} is not a model")));
    }
    if let Some(parts) = metadata.u32("split.count")?.filter(|&parts| parts > 1) {
        let what = format!("one of {parts} parts: join the parts to one file first");
        return Err(LoadError::bad_value("split.count", what));
    }
    let missing = || LoadError::MissingKey("general.architecture".into());
    let arch = metadata.str("general.architecture")?.ok_or_else(missing)?;
    let describe = find(GGUF, arch)?;
    let keys = Keys::of_metadata(metadata, arch);
    let description = describe(&keys, weights)?;
    keys.finish(GGUF_HARMLESS)?;
    Ok((arch.to_owned(), description))
}

/// The architecture of a `config.json`, and its description.
pub(crate) fn of_json(text: &str, weights: &Weights) -> Result<(String, Description), LoadError> {
    let keys = Keys::of_json(text)?;
    let arch = keys.text("model_type")?.ok_or_else(|| keys.missing("model_type"))?;
    let describe = find(JSON, arch)?;
    let mut description = describe(&keys, weights)?;
    // A tied model's file may hold the output matrix all the same.
    let tied_default = arch == "gemma3_text";
    description.tied = keys.flag("tie_word_embeddings")?.unwrap_or(tied_default);
    keys.finish(JSON_HARMLESS)?;
    Ok((arch.to_owned(), description))
}

fn find(table: &[(&str, Describe)], arch: &str) -> Result<Describe, LoadError> {
    let entry = table.iter().find(|(name, _)| *name == arch);
    entry.map(|(_, describe)| *describe).ok_or_else(|| LoadError::UnknownArchitecture(arch.into()))
}

/// Refuses value heads of another size than key heads.
fn same_value_heads(keys: &Keys, description: &Description) -> Result<(), LoadError> {
    let value = keys.size("attention.value_length")?.unwrap_or(description.head_dim);
    if value == description.head_dim {
        return Ok(());
    }
    let what = format!("{value} differs from the key heads' {}", description.head_dim);
    Err(keys.bad("attention.value_length", what))
}

/// Refuses any activation but SiLU, which `config.json` names `silu`.
fn only_silu(keys: &Keys) -> Result<(), LoadError> {
    match keys.text("hidden_act")? {
        None | Some("silu" | "swish") => Ok(()),
        Some(other) => Err(keys.bad("hidden_act", format!("{other:?} is not supported: silu is"))),
    }
}

/// Keys under the architecture's prefix that do not change what is computed.
const GGUF_HARMLESS: &[&str] = &[
    "tensor_data_layout",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "mm.tokens_per_image",
];

/// Keys of `config.json` that do not change what is computed.
const JSON_HARMLESS: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "cache_implementation",
    "dtype",
    "eos_token_id",
    "initializer_range",
    "is_llama_config",
    // Only read where `use_sliding_window` is true, which is refused.
    "max_window_layers",
    "pad_token_id",
    // How products were cut at training time.
    "pretraining_tp",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
];

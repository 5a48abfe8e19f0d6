//! Qwen2 and Qwen2.5: a Llama with biases on Q, K and V.

use super::{only_silu, same_value_heads};
use crate::config::Keys;
use crate::description::{Description, Spelling};
use crate::rope::Frequencies;
use crate::{LoadError, Weights};

/// From GGUF metadata.
pub(super) fn of_gguf(keys: &Keys, weights: &Weights) -> Result<Description, LoadError> {
    let mut description = Description::base(keys, &Spelling::GGUF, weights)?;
    same_value_heads(keys, &description)?;
    description.qkv_bias = true;
    description.rope = Frequencies::of_gguf(keys, ROPE_BASE, description.head_dim, weights)?;
    Ok(description)
}

/// From `config.json`.
pub(super) fn of_json(keys: &Keys, weights: &Weights) -> Result<Description, LoadError> {
    let mut description = Description::base(keys, &Spelling::HUB, weights)?;
    only_silu(keys)?;
    no_windows(keys)?;
    description.qkv_bias = true;
    description.rope = Frequencies::of_json(keys, ROPE_BASE, description.head_dim)?;
    Ok(description)
}

/// Qwen's windows are off in every published model; a file that turns them on is refused.
pub(super) fn no_windows(keys: &Keys) -> Result<(), LoadError> {
    keys.only_flag("use_sliding_window", false)?;
    // Older configurations give a window's length while they turn windows off.
    keys.size("sliding_window")?;
    let layers = keys.list("layer_types")?.unwrap_or_default();
    match layers.iter().find(|layer| layer.as_str() != Some("full_attention")) {
        Some(layer) => Err(keys.bad("layer_types", format!("{layer} is not supported"))),
        None => Ok(()),
    }
}

pub(super) const ROPE_BASE: f64 = 10_000.0;

//! Qwen3 (dense): no biases, Q and K normalized per head.

use super::qwen2::{ROPE_BASE, no_windows};
use super::{only_silu, same_value_heads};
use crate::config::Keys;
use crate::description::{Description, Spelling};
use crate::rope::Frequencies;
use crate::{LoadError, Weights};

/// From GGUF metadata.
pub(super) fn of_gguf(keys: &Keys, weights: &Weights) -> Result<Description, LoadError> {
    let mut description = Description::base(keys, &Spelling::GGUF, weights)?;
    same_value_heads(keys, &description)?;
    description.qk_norm = true;
    description.rope = Frequencies::of_gguf(keys, ROPE_BASE, description.head_dim, weights)?;
    Ok(description)
}

/// From `config.json`.
pub(super) fn of_json(keys: &Keys, weights: &Weights) -> Result<Description, LoadError> {
    let mut description = Description::base(keys, &Spelling::HUB, weights)?;
    only_silu(keys)?;
    no_windows(keys)?;
    keys.only_flag("attention_bias", false)?;
    description.qk_norm = true;
    description.rope = Frequencies::of_json(keys, ROPE_BASE, description.head_dim)?;
    Ok(description)
}

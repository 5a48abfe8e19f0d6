//! Llama and what is one in all but name: SmolLM2, Mistral.
//!
//! Rotation is interleaved in GGUF, whose converters permute Q and K for it, and half-split in
//! safetensors.

use super::{only_silu, same_value_heads};
use crate::config::Keys;
use crate::description::{Description, LayerKind, Spelling};
use crate::rope::Frequencies;
use crate::{LoadError, Weights};
use kernels::RopeStyle;

/// From GGUF metadata; also Mistral's, which converters call `llama`.
pub(super) fn of_gguf(keys: &Keys, weights: &Weights) -> Result<Description, LoadError> {
    let mut description = Description::base(keys, &Spelling::GGUF, weights)?;
    same_value_heads(keys, &description)?;
    description.rope_style = RopeStyle::Interleaved;
    description.rope = Frequencies::of_gguf(keys, ROPE_BASE, description.head_dim, weights)?;
    window(keys, "attention.sliding_window", &mut description)?;
    Ok(description)
}

/// From `config.json`.
pub(super) fn of_json(keys: &Keys, weights: &Weights) -> Result<Description, LoadError> {
    let mut description = Description::base(keys, &Spelling::HUB, weights)?;
    only_silu(keys)?;
    keys.only_flag("attention_bias", false)?;
    keys.only_flag("mlp_bias", false)?;
    keys.only_flag("rope_interleaved", false)?;
    description.rope = Frequencies::of_json(keys, ROPE_BASE, description.head_dim)?;
    Ok(description)
}

/// Mistral: a Llama that looks back a window's length in every layer.
pub(super) fn of_mistral_json(keys: &Keys, weights: &Weights) -> Result<Description, LoadError> {
    let mut description = of_json(keys, weights)?;
    window(keys, "sliding_window", &mut description)?;
    Ok(description)
}

fn window(keys: &Keys, key: &str, description: &mut Description) -> Result<(), LoadError> {
    let window = keys.size(key)?.map(|window| window as u32);
    description.layers.fill(LayerKind { window, ..LayerKind::GLOBAL });
    Ok(())
}

const ROPE_BASE: f64 = 10_000.0;

//! Gemma 3 (text): post norms, norms of Q and K, GELU, scaled embeddings, and five layers with a
//! sliding window and their own rotation for each one without.

use super::same_value_heads;
use crate::config::Keys;
use crate::description::{Description, LayerKind, Names, Spelling};
use crate::rope::Frequencies;
use crate::{LoadError, Weights};
use kernels::{Gate, Refine};

/// From GGUF metadata.
pub(super) fn of_gguf(keys: &Keys, weights: &Weights) -> Result<Description, LoadError> {
    let mut description = gemma(Description::base(keys, &Spelling::GGUF, weights)?);
    same_value_heads(keys, &description)?;
    let Description { dim, heads, head_dim, .. } = description;
    description.rope = Frequencies::of_gguf(keys, ROPE_BASE, head_dim, weights)?;
    let base = keys.positive("rope.freq_base_swa")?.unwrap_or(ROPE_BASE_LOCAL);
    description.rope_local = Some(Frequencies::new(base, head_dim));
    // No key tells: llama.cpp knows the 27B model by its layers, and so must we.
    if description.layers.len() == LAYERS_27B {
        description.attention_scale = ((dim / heads) as f32).sqrt().recip();
    }
    description.attention_softcap = softcap(keys, "attn_logit_softcapping")?;
    description.final_softcap = softcap(keys, "final_logit_softcapping")?;
    let window = keys.needed_size("attention.sliding_window")?;
    let pattern = keys.size("attention.sliding_window_pattern")?.unwrap_or(PATTERN);
    alternate(&mut description, window, |layer| !(layer + 1).is_multiple_of(pattern));
    Ok(description)
}

/// From `config.json`.
pub(super) fn of_json(keys: &Keys, weights: &Weights) -> Result<Description, LoadError> {
    let mut description = gemma(Description::base(keys, &Spelling::HUB, weights)?);
    description.names = &Names::HUB_GEMMA;
    description.norm_plus_one = true;
    activation(keys)?;
    keys.only_flag("attention_bias", false)?;
    keys.only_flag("use_bidirectional_attention", false)?;
    if let Some(scalar) = keys.positive("query_pre_attn_scalar")? {
        description.attention_scale = scalar.sqrt().recip() as f32;
    }
    description.attention_softcap = softcap(keys, "attn_logit_softcapping")?;
    description.final_softcap = softcap(keys, "final_logit_softcapping")?;
    rotation(keys, &mut description)?;
    windows(keys, &mut description)?;
    Ok(description)
}

fn gemma(base: Description) -> Description {
    Description {
        qk_norm: true,
        post_norms: true,
        // A few numbers are hundreds of times larger than those beside them, and what rounding takes
        // from their groups decides how some joins go on.
        refine: Refine::Outliers,
        gate: Gate::GeluTanh,
        embed_scale: (base.dim as f32).sqrt(),
        ..base
    }
}

fn activation(keys: &Keys) -> Result<(), LoadError> {
    let key = "hidden_activation";
    match keys.text(key)? {
        None | Some("gelu_pytorch_tanh") => {}
        Some(other) => {
            let what = format!("{other:?} is not supported: gelu_pytorch_tanh is");
            return Err(keys.bad(key, what));
        }
    }
    // Written beside it by older tools, and read by none.
    keys.text("hidden_act").map(drop)
}

/// `rope_parameters` by kind of layer, or the older keys, whose scaling is for global layers only.
fn rotation(keys: &Keys, description: &mut Description) -> Result<(), LoadError> {
    let head_dim = description.head_dim;
    let base_local = keys.positive("rope_local_base_freq")?.unwrap_or(ROPE_BASE_LOCAL);
    let parameters = keys.object("rope_parameters")?;
    let Some(parameters) = parameters else {
        description.rope = Frequencies::of_json(keys, ROPE_BASE, head_dim)?;
        description.rope_local = Some(Frequencies::new(base_local, head_dim));
        return Ok(());
    };
    let part = |kind: &str, base| match parameters.object(kind)? {
        Some(part) => Frequencies::of_parameters(&part, base, head_dim),
        None => Err(parameters.missing(kind)),
    };
    description.rope = part("full_attention", ROPE_BASE)?;
    description.rope_local = Some(part("sliding_attention", base_local)?);
    parameters.finish(&[])
}

fn windows(keys: &Keys, description: &mut Description) -> Result<(), LoadError> {
    let window = keys.needed_size("sliding_window")?;
    let mut pattern = PATTERN;
    for key in ["sliding_window_pattern", "_sliding_window_pattern"] {
        pattern = keys.size(key)?.unwrap_or(pattern);
    }
    let Some(types) = keys.list("layer_types")? else {
        alternate(description, window, |layer| !(layer + 1).is_multiple_of(pattern));
        return Ok(());
    };
    if types.len() != description.layers.len() {
        let what = format!("{} entries for {} layers", types.len(), description.layers.len());
        return Err(keys.bad("layer_types", what));
    }
    let known = ["full_attention", "sliding_attention"];
    if let Some(other) =
        types.iter().find(|kind| !kind.as_str().is_some_and(|k| known.contains(&k)))
    {
        return Err(keys.bad("layer_types", format!("{other} is not supported")));
    }
    alternate(description, window, |layer| types[layer] == "sliding_attention");
    Ok(())
}

fn alternate(description: &mut Description, window: usize, local: impl Fn(usize) -> bool) {
    for (layer, kind) in description.layers.iter_mut().enumerate() {
        if local(layer) {
            *kind = LayerKind { window: Some(window as u32), local_rope: true };
        }
    }
}

fn softcap(keys: &Keys, key: &str) -> Result<Option<f32>, LoadError> {
    Ok(keys.positive(key)?.map(|cap| cap as f32))
}

const ROPE_BASE: f64 = 1_000_000.0;
const ROPE_BASE_LOCAL: f64 = 10_000.0;
/// Every sixth layer is global.
const PATTERN: usize = 6;
const LAYERS_27B: usize = 62;

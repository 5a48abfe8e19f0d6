//! What a decoder needs to know about a model: numbers, switches, and the names of its tensors.
//!
//! One architecture is one file in `arch/`, which maps a configuration to a [`Description`]. The
//! decoder reads nothing else, so a description that is right is a model that is right.

use crate::config::Keys;
use crate::rope::Frequencies;
use crate::{LoadError, Weights};
use kernels::{Gate, HEAD_DIM_MAX, Refine, RopeStyle};

/// A model, described for the decoder.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one switch of an architecture")]
pub(crate) struct Description {
    /// Width of the residual stream.
    pub(crate) dim: usize,
    /// Query heads.
    pub(crate) heads: usize,
    /// K/V heads; divides `heads`.
    pub(crate) kv_heads: usize,
    /// Elements of one head; even.
    pub(crate) head_dim: usize,
    /// Width of the feed-forward layer.
    pub(crate) ffn: usize,
    /// Entries of the vocabulary.
    pub(crate) vocab: usize,
    /// Positions the model was trained for.
    pub(crate) context_train: usize,
    /// One per transformer layer.
    pub(crate) layers: Vec<LayerKind>,
    /// Added to the mean square in every norm.
    pub(crate) norm_eps: f32,
    /// Norms multiply by `1 + weight` (Gemma in safetensors; GGUF files hold the sum).
    pub(crate) norm_plus_one: bool,
    /// Q, K and V have biases.
    pub(crate) qkv_bias: bool,
    /// Q and K are normalized per head, before rotation.
    pub(crate) qk_norm: bool,
    /// Attention's and the feed-forward layer's outputs are normalized before they are added.
    pub(crate) post_norms: bool,
    /// The feed-forward layer's activation.
    pub(crate) gate: Gate,
    /// Which groups of the activations that layers multiply are quantized twice.
    pub(crate) refine: Refine,
    /// Embeddings are multiplied by this.
    pub(crate) embed_scale: f32,
    /// Scores are multiplied by this.
    pub(crate) attention_scale: f32,
    /// Scores `s` become `c·tanh(s/c)`.
    pub(crate) attention_softcap: Option<f32>,
    /// Logits `l` become `c·tanh(l/c)`.
    pub(crate) final_softcap: Option<f32>,
    /// How a head's elements pair up for rotation.
    pub(crate) rope_style: RopeStyle,
    /// Rotation of layers that are not local.
    pub(crate) rope: Frequencies,
    /// Rotation of local layers, where it differs.
    pub(crate) rope_local: Option<Frequencies>,
    /// The output matrix is the embedding table.
    pub(crate) tied: bool,
    /// What the tensors are called.
    pub(crate) names: &'static Names,
}

/// What differs from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerKind {
    /// A key is seen when it is fewer than this many positions back.
    pub(crate) window: Option<u32>,
    /// Rotated by [`Description::rope_local`].
    pub(crate) local_rope: bool,
}

impl Description {
    /// Products of two numbers that attention of one row does for each row of KV that it sees in all
    /// layers: with its keys, and with its values.
    pub(crate) fn attention_products(&self) -> usize {
        2 * self.layers.len() * self.heads * self.head_dim
    }
}

impl LayerKind {
    /// Sees everything before it.
    pub(crate) const GLOBAL: Self = Self { window: None, local_rope: false };
}

/// Names of tensors, without `.weight` and `.bias`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) embed: &'static str,
    pub(crate) final_norm: &'static str,
    pub(crate) output: &'static str,
    /// Before the layer's number.
    pub(crate) layer: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) q: &'static str,
    pub(crate) k: &'static str,
    pub(crate) v: &'static str,
    pub(crate) attention_out: &'static str,
    pub(crate) q_norm: &'static str,
    pub(crate) k_norm: &'static str,
    pub(crate) post_attention_norm: &'static str,
    pub(crate) ffn_norm: &'static str,
    pub(crate) gate: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
    pub(crate) post_ffn_norm: &'static str,
}

impl Names {
    /// GGUF uses one set of names for all architectures.
    pub(crate) const GGUF: Self = Self {
        embed: "token_embd",
        final_norm: "output_norm",
        output: "output",
        layer: "blk.",
        attention_norm: "attn_norm",
        q: "attn_q",
        k: "attn_k",
        v: "attn_v",
        attention_out: "attn_output",
        q_norm: "attn_q_norm",
        k_norm: "attn_k_norm",
        post_attention_norm: "post_attention_norm",
        ffn_norm: "ffn_norm",
        gate: "ffn_gate",
        up: "ffn_up",
        down: "ffn_down",
        post_ffn_norm: "post_ffw_norm",
    };

    /// Hugging Face: Llama, Mistral, Qwen.
    pub(crate) const HUB: Self = Self {
        embed: "model.embed_tokens",
        final_norm: "model.norm",
        output: "lm_head",
        layer: "model.layers.",
        attention_norm: "input_layernorm",
        q: "self_attn.q_proj",
        k: "self_attn.k_proj",
        v: "self_attn.v_proj",
        attention_out: "self_attn.o_proj",
        q_norm: "self_attn.q_norm",
        k_norm: "self_attn.k_norm",
        // Without post norms this name is not asked for.
        post_attention_norm: "post_attention_norm",
        ffn_norm: "post_attention_layernorm",
        gate: "mlp.gate_proj",
        up: "mlp.up_proj",
        down: "mlp.down_proj",
        post_ffn_norm: "post_feedforward_layernorm",
    };

    /// Hugging Face: Gemma, whose `post_attention_layernorm` is what its name says.
    pub(crate) const HUB_GEMMA: Self = Self {
        post_attention_norm: "post_attention_layernorm",
        ffn_norm: "pre_feedforward_layernorm",
        ..Self::HUB
    };

    /// The full name of a layer's tensor, without `.weight` and `.bias`.
    pub(crate) fn of_layer(&self, layer: usize, part: &str) -> String {
        format!("{}{layer}.{part}", self.layer)
    }
}

/// How one container spells the keys that all architectures share.
#[derive(Debug)]
pub(crate) struct Spelling {
    layers: &'static str,
    dim: &'static str,
    ffn: &'static str,
    heads: &'static str,
    kv_heads: &'static str,
    head_dim: &'static str,
    norm_eps: &'static str,
    context: &'static str,
    vocab: &'static str,
    names: &'static Names,
}

impl Spelling {
    /// GGUF metadata.
    pub(crate) const GGUF: Self = Self {
        layers: "block_count",
        dim: "embedding_length",
        ffn: "feed_forward_length",
        heads: "attention.head_count",
        kv_heads: "attention.head_count_kv",
        head_dim: "attention.key_length",
        norm_eps: "attention.layer_norm_rms_epsilon",
        context: "context_length",
        vocab: "vocab_size",
        names: &Names::GGUF,
    };

    /// `config.json`.
    pub(crate) const HUB: Self = Self {
        layers: "num_hidden_layers",
        dim: "hidden_size",
        ffn: "intermediate_size",
        heads: "num_attention_heads",
        kv_heads: "num_key_value_heads",
        head_dim: "head_dim",
        norm_eps: "rms_norm_eps",
        context: "max_position_embeddings",
        vocab: "vocab_size",
        names: &Names::HUB,
    };
}

impl Description {
    /// What all architectures share: a Llama without scaling, which their files then change.
    pub(crate) fn base(
        keys: &Keys,
        spelling: &Spelling,
        weights: &Weights,
    ) -> Result<Self, LoadError> {
        let layers = keys.needed_size(spelling.layers)?;
        let tensors = weights.names().count();
        if layers > tensors {
            let what = format!("{layers} layers, but the file has {tensors} tensors");
            return Err(keys.bad(spelling.layers, what));
        }
        let dim = keys.needed_size(spelling.dim)?;
        let heads = keys.needed_size(spelling.heads)?;
        let kv_heads = keys.size(spelling.kv_heads)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(keys.bad(spelling.kv_heads, format!("{kv_heads} does not divide {heads}")));
        }
        let head_dim = match keys.size(spelling.head_dim)? {
            Some(head_dim) => head_dim,
            None if dim.is_multiple_of(heads) => dim / heads,
            None => return Err(keys.bad(spelling.heads, format!("{heads} does not divide {dim}"))),
        };
        if !head_dim.is_multiple_of(2) || head_dim > HEAD_DIM_MAX {
            let what = format!("{head_dim} is not an even number up to {HEAD_DIM_MAX}");
            return Err(keys.bad(spelling.head_dim, what));
        }
        let names = spelling.names;
        let embed = format!("{}.weight", names.embed);
        let table = weights.tensor(&embed).ok_or(LoadError::MissingTensor(embed))?;
        let vocab = match (table.shape, keys.size(spelling.vocab)?) {
            (&[vocab, cols], announced) if cols == dim && announced.is_none_or(|n| n == vocab) => {
                vocab
            }
            (shape, announced) => {
                let rows = announced.or(shape.first().copied()).unwrap_or(0);
                return Err(LoadError::WrongShape {
                    name: table.name.into(),
                    found: shape.to_vec(),
                    expected: vec![rows, dim],
                });
            }
        };
        Ok(Self {
            dim,
            heads,
            kv_heads,
            head_dim,
            ffn: keys.needed_size(spelling.ffn)?,
            vocab,
            context_train: keys.needed_size(spelling.context)?,
            layers: vec![LayerKind::GLOBAL; layers],
            norm_eps: keys.needed_positive(spelling.norm_eps)? as f32,
            norm_plus_one: false,
            qkv_bias: false,
            qk_norm: false,
            post_norms: false,
            refine: Refine::Never,
            gate: Gate::Silu,
            embed_scale: 1.0,
            attention_scale: (head_dim as f32).sqrt().recip(),
            attention_softcap: None,
            final_softcap: None,
            rope_style: RopeStyle::HalfSplit,
            rope: Frequencies::new(10_000.0, head_dim),
            rope_local: None,
            tied: weights.tensor(&format!("{}.weight", names.output)).is_none(),
            names,
        })
    }
}

//! Models of given sizes with random weights: for measuring a device where no file is.

use crate::description::{Description, LayerKind, Names};
use crate::rope::Frequencies;
use kernels::{Gate, Refine, RopeStyle};

/// The sizes of a Llama.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomModel {
    /// Width of the residual stream.
    pub dim: usize,
    /// Query heads.
    pub heads: usize,
    /// K/V heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// Transformer layers.
    pub layers: usize,
    /// Longest composition, in positions.
    pub context: usize,
    /// The output matrix is the embedding table.
    pub tied: bool,
}

impl RandomModel {
    /// The sizes of Llama 3 8B.
    pub const LLAMA_8B: Self = Self {
        dim: 4096,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        ffn: 14_336,
        vocab: 128_256,
        layers: 32,
        context: 131_072,
        tied: false,
    };

    /// The sizes of Llama 3.2 1B.
    pub const LLAMA_1B: Self = Self {
        dim: 2048,
        heads: 32,
        kv_heads: 8,
        head_dim: 64,
        ffn: 8192,
        vocab: 128_256,
        layers: 16,
        context: 131_072,
        tied: true,
    };

    pub(super) fn description(&self) -> Description {
        let Self { dim, heads, kv_heads, head_dim, ffn, vocab, layers, context, tied } = *self;
        Description {
            dim,
            heads,
            kv_heads,
            head_dim,
            ffn,
            vocab,
            context_train: context,
            layers: vec![LayerKind::GLOBAL; layers],
            norm_eps: 1e-5,
            norm_plus_one: false,
            qkv_bias: false,
            qk_norm: false,
            post_norms: false,
            gate: Gate::Silu,
            refine: Refine::Never,
            embed_scale: 1.0,
            attention_scale: (head_dim as f32).sqrt().recip(),
            attention_softcap: None,
            final_softcap: None,
            rope_style: RopeStyle::HalfSplit,
            rope: Frequencies::new(500_000.0, head_dim),
            rope_local: None,
            tied,
            names: &Names::GGUF,
        }
    }
}

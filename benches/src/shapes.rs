//! Shapes of known models, for measuring what depends on nothing but sizes.

use clap::ValueEnum;

/// The sizes of a model with Llama's layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    /// Query heads.
    pub(crate) heads: usize,
    /// K/V heads.
    pub(crate) kv_heads: usize,
    /// Elements of a head.
    pub(crate) head_dim: usize,
    /// Width of the feed-forward layer.
    pub(crate) ffn: usize,
    pub(crate) layers: usize,
}

impl Shape {
    const fn new(
        name: &'static str,
        [heads, kv_heads, head_dim]: [usize; 3],
        ffn: usize,
        layers: usize,
    ) -> Self {
        Self { name, heads, kv_heads, head_dim, ffn, layers }
    }

    /// Width of the residual stream.
    pub(crate) fn dim(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// The known ones.
pub(crate) const SHAPES: [Shape; 6] = [
    Shape::new("SmolLM2-135M", [9, 3, 64], 1536, 30),
    Shape::new("Qwen2.5-0.5B", [14, 2, 64], 4864, 24),
    Shape::new("Llama-3-8B", [32, 8, 128], 14_336, 32),
    Shape::new("Qwen1.5-0.5B", [16, 16, 64], 2816, 24),
    Shape::new("DeepSeek-Coder-1.3B", [16, 16, 128], 5504, 24),
    Shape::new("Llama-2-7B", [32, 32, 128], 11_008, 32),
];

/// One of them, by its name on a command line.
impl ValueEnum for &'static Shape {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [&Shape; SHAPES.len()] =
            [&SHAPES[0], &SHAPES[1], &SHAPES[2], &SHAPES[3], &SHAPES[4], &SHAPES[5]];
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.name))
    }
}

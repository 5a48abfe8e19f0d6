//! Attention of batch rows over runs of KV pages placed in a composition.
//!
//! For a query row at composed position `q` and head `h` (which reads K/V head
//! `h / (heads / kv_heads)`), over every row `r` of every run of its span that it sees:
//!
//! ```text
//! score(r) = cap((R(q - shift) query · K[r]) * scale)      cap(x) = softcap tanh(x / softcap)
//! out      = sum_r softmax(score)(r) V[r]
//! ```
//!
//! A row that sees nothing gives zeros.

pub(crate) mod reference;

use crate::{Cpu, KvPool, RopeTable, Span};

/// The numbers of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// K/V heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// What `q · k` is multiplied by.
    pub scale: f32,
    /// Sliding window: a query at `q` sees keys at `k` with `q - k < window`.
    pub window: Option<u32>,
    /// Scores are squashed to `±softcap`.
    pub softcap: Option<f32>,
}

/// Queries of a batch in one layer.
#[derive(Clone, Copy, Debug)]
pub struct Queries<'a> {
    /// The layer.
    pub layer: usize,
    /// `[rows, heads * head_dim]`, not rotated: each run rotates them for its own shift.
    pub q: &'a [f32],
    /// Composed position of each row.
    pub positions: &'a [u32],
    /// Which rows look at which runs. Spans do not share rows.
    pub spans: &'a [Span<'a>],
    /// The layer's angles.
    pub rope: &'a RopeTable,
}

/// Memory of [`attention`], reused between calls.
#[derive(Debug, Default)]
pub struct AttentionScratch {}

impl AttentionScratch {
    /// Grows at the first calls.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Fills `out` (`[rows, heads * head_dim]`) for the rows of every span; other rows stay.
///
/// # Panics
/// When lengths disagree or a run lies outside the pool.
pub fn attention(
    _cpu: &Cpu,
    kv: &KvPool,
    shape: &AttentionShape,
    queries: &Queries<'_>,
    _scratch: &mut AttentionScratch,
    out: &mut [f32],
) {
    reference::attention(kv, shape, queries, out);
}

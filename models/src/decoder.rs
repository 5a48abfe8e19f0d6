//! The decoder: one straight-line forward pass whose parts are chosen by a [`Description`].
//!
//! Holds weights, the pool of KV pages and scratch memory made at load; a step allocates nothing.
//! Letters: T rows of the batch, C `dim`, Q `heads·head_dim`, K `kv_heads·head_dim`, F `ffn`.

use crate::description::{Description, LayerKind};
use crate::narrow::Narrow;
use crate::parts::{Layer, Parts};
use crate::rope::Frequencies;
use crate::{Batch, Model, ModelShape, Weight};
use kernels::{
    AttentionScratch, AttentionShape, Cpu, Input, KvPool, KvRows, Looks, PageId, Queries, Refine,
    RopeTable,
};

/// A model's weights, its KV pages, and what computes over them.
pub struct Decoder {
    cpu: Cpu,
    description: Description,
    parts: Parts,
    rope: RopeTable,
    rope_local: Option<RopeTable>,
    kv: KvPool,
    scratch: Scratch,
    narrow: Narrow,
    shape: ModelShape,
}

impl Decoder {
    pub(crate) fn new(
        cpu: Cpu,
        description: Description,
        parts: Parts,
        kv: KvPool,
        shape: ModelShape,
    ) -> Self {
        let table = |frequencies: &Frequencies| {
            let positions_max = shape.context_max.min(ROPE_POSITIONS_MAX);
            RopeTable::new(description.rope_style, frequencies.to_f32(), positions_max)
        };
        let rope = table(&description.rope);
        let rope_local = description.rope_local.as_ref().map(table);
        let scratch = Scratch::new(&description, shape.batch_rows_max);
        let narrow = Narrow::default();
        Self { cpu, description, parts, rope, rope_local, kv, scratch, narrow, shape }
    }

    /// Pages that several sequences look at are read once for all of them, or once for each.
    pub(crate) fn share_reads(&mut self, shares: bool) {
        self.scratch.attention.share_reads(shares);
    }

    /// Instruction set and threads.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// Products of a weight and an activation that the layers do for one row.
    pub fn layer_products(&self) -> usize {
        self.parts.layer_matrices().map(|matrix| matrix.rows() * matrix.cols()).sum()
    }

    /// Products that attention of one row does for each row of KV that it sees in all layers.
    pub fn attention_products(&self) -> usize {
        self.description.attention_products()
    }

    /// Bytes of weights that decoding one token reads.
    pub fn weight_bytes_per_token(&self) -> usize {
        let layers: usize = self.parts.layer_matrices().map(kernels::Matrix::bytes).sum();
        layers + self.parts.output().bytes()
    }

    /// Bytes of weights held in memory.
    pub fn weight_bytes(&self) -> usize {
        self.parts.bytes()
    }

    /// One layer: writes K and V of all rows, then, unless only those are wanted, adds attention
    /// and the feed-forward layer to the residual stream.
    fn layer(&mut self, index: usize, (batch, looks): (&Batch<'_>, Looks<'_>), task: Task<'_>) {
        let kv_only = matches!(task, Task::KvOnly | Task::Deviate(_));
        let Self { cpu, description: d, parts, scratch, kv, .. } = self;
        let (cpu, layer, kind) = (&*cpu, &parts.layers[index], d.layers[index]);
        let rope = match &self.rope_local {
            Some(local) if kind.local_rope => local,
            _ => &self.rope,
        };
        let positions = batch.positions;
        let mut rows = scratch.rows(d, batch.tokens.len());
        rows.normed_input(cpu, d, &layer.attention_norm);

        if kv_only {
            kernels::matmul_each(
                cpu,
                [&layer.k, &layer.v],
                rows.input,
                [&mut *rows.k, &mut *rows.v],
            );
        } else {
            let (w, out) =
                ([&layer.q, &layer.k, &layer.v], [&mut *rows.q, &mut *rows.k, &mut *rows.v]);
            kernels::matmul_each(cpu, w, rows.input, out);
        }
        rows.keys_and_values(cpu, layer, d.norm_eps);
        let at = KvRows { layer: index, writes: batch.writes, positions, rope };
        match &task {
            Task::All | Task::KvOnly | Task::Weigh(..) => {
                kernels::kv_append(cpu, kv, &at, rows.k, rows.v);
            }
            Task::Reread | Task::Deviate(_) => {}
        }
        if let Task::Deviate(out) = task {
            return kernels::kv_deviation(cpu, kv, (index, batch.writes), rows.v, out);
        }
        if kv_only {
            return;
        }
        rows.queries(cpu, layer, d.norm_eps);
        let queries = Queries { layer: index, q: rows.q, looks, rope };
        let shape = attention_shape(d, kind);
        match task {
            Task::Weigh(Weight::Attention, mass) => {
                kernels::attention_mass(cpu, kv, &shape, &queries, rows.attention, mass);
            }
            Task::Weigh(Weight::Influence, mass) => {
                let mut attention = vec![0; mass.len()];
                kernels::attention_mass(cpu, kv, &shape, &queries, rows.attention, &mut attention);
                let mut norms = vec![0.0; mass.len()];
                kernels::kv_norm(cpu, kv, index, batch.spans[0].runs, &mut norms);
                for ((to, share), norm) in mass.iter_mut().zip(attention).zip(norms) {
                    // Sums that saturate depend on no order either.
                    let norm = (norm * NORM_ONE).round() as u64;
                    *to = to.saturating_add(share.saturating_mul(norm));
                }
            }
            _ => {}
        }
        kernels::attention(cpu, kv, &shape, &queries, rows.attention, rows.attended);
        // Means of values: the outliers that a model has are elsewhere.
        let refine = if d.refine == Refine::Always { Refine::Always } else { Refine::Never };
        rows.input.set(cpu, refine, rows.attended, d.heads * d.head_dim);
        kernels::matmul(cpu, &layer.attention_out, rows.input, rows.normed); // [T, C]
        rows.add_normed(cpu, layer.post_attention_norm.as_deref(), d.norm_eps);

        rows.normed_input(cpu, d, &layer.ffn_norm);
        rows.feed_forward(cpu, d, layer);
        rows.add_normed(cpu, layer.post_ffn_norm.as_deref(), d.norm_eps);
    }

    /// Checks a batch, and fills the residual stream with its tokens.
    fn embed(&mut self, batch: &Batch<'_>) {
        batch.check(&self.shape);
        let Self { cpu, description: d, parts, scratch, .. } = self;
        let x = scratch.rows(d, batch.tokens.len()).x;
        kernels::embed(cpu, &parts.embed, batch.tokens, d.embed_scale, x); // [T, C]
    }

    /// Moves these rows of the residual stream, which ascend, to its front.
    fn narrow(&mut self, rows: &[usize]) {
        let dim = self.description.dim;
        for (to, &from) in rows.iter().enumerate() {
            self.scratch.x.copy_within(from * dim..(from + 1) * dim, to * dim);
        }
    }

    /// Logits of the rows asked for.
    fn head(&mut self, batch: &Batch<'_>, logits: &mut Vec<f32>) {
        let Self { cpu, description: d, parts, scratch, .. } = self;
        let wanted = batch.logits_rows;
        logits.resize(wanted.len() * d.vocab, 0.0);
        let rows = scratch.rows(d, batch.tokens.len());
        let gathered = &mut rows.spare[..wanted.len() * d.dim]; // [wanted, C]
        for (to, &row) in gathered.chunks_exact_mut(d.dim).zip(wanted) {
            to.copy_from_slice(&rows.x[row * d.dim..(row + 1) * d.dim]);
        }
        let normed = &mut rows.normed[..wanted.len() * d.dim];
        kernels::rms_norm(cpu, gathered, &parts.final_norm, d.norm_eps, normed);
        // Few rows, and nothing after them evens out their rounding.
        rows.input.set(cpu, Refine::Always, normed, d.dim);
        kernels::matmul(cpu, parts.output(), rows.input, logits); // [wanted, vocab]
        if let Some(cap) = d.final_softcap {
            for l in logits.iter_mut() {
                *l = cap * (*l / cap).tanh();
            }
        }
    }
}

/// What [`Weight::Influence`] counts for a squared norm of 1.
pub(crate) const NORM_ONE: f64 = 256.0;

/// What a layer is computed for.
enum Task<'a> {
    /// The residual stream behind it.
    All,
    /// Its K and V alone.
    KvOnly,
    /// The residual stream, and what rows weigh.
    Weigh(Weight, &'a mut [u64]),
    /// The residual stream, over K and V that pages hold.
    Reread,
    /// How far its V is from what pages hold.
    Deviate(&'a mut [f64]),
}

impl Model for Decoder {
    fn shape(&self) -> &ModelShape {
        &self.shape
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut Vec<f32>) {
        self.embed(batch);
        let layers = self.shape.layers;
        let of_batch = (batch, looks(batch));
        for index in 0..layers - 1 {
            self.layer(index, of_batch, Task::All);
        }
        // A second pass over some rows pays when they are few.
        if batch.logits_rows.len() > batch.tokens.len() / 2 {
            self.layer(layers - 1, of_batch, Task::All);
            return self.head(batch, logits);
        }
        self.layer(layers - 1, of_batch, Task::KvOnly);
        if batch.logits_rows.is_empty() {
            return logits.clear();
        }
        let mut narrow = std::mem::take(&mut self.narrow);
        narrow.with(batch, |few| {
            self.narrow(batch.logits_rows);
            self.layer(layers - 1, (few, looks(few)), Task::Reread);
            self.head(few, logits);
        });
        self.narrow = narrow;
    }

    fn weigh(&mut self, batch: &Batch<'_>, by: Weight, mass: &mut [u64], logits: &mut Vec<f32>) {
        self.embed(batch);
        let of_batch = (batch, looks(batch));
        for index in 0..self.shape.layers {
            self.layer(index, of_batch, Task::Weigh(by, mass));
        }
        if batch.logits_rows.is_empty() {
            logits.clear();
        } else {
            self.head(batch, logits);
        }
    }

    fn deviate(&mut self, batch: &Batch<'_>, deviations: &mut [f64]) {
        self.embed(batch);
        if self.shape.layers == 1 {
            return deviations.fill(0.0);
        }
        let of_batch = (batch, looks(batch));
        self.layer(0, of_batch, Task::Reread);
        self.layer(1, of_batch, Task::Deviate(deviations));
    }

    fn copy_rows(&mut self, from: PageId, to: PageId, rows: usize) {
        self.kv.copy_rows(from, to, rows);
    }

    fn read_rows(&self, pages: &[PageId], rows: usize, kv: &mut Vec<u8>) {
        kv.reserve_exact(rows * self.shape.row_bytes);
        self.kv.visit_rows(pages, rows, |bytes| kv.extend_from_slice(bytes));
    }

    fn fill_rows(&mut self, pages: &[PageId], rows: usize, kv: &[u8]) {
        self.kv.fill_rows(pages, rows, kv);
    }

    fn digest(&self, pages: &[PageId], rows: usize) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        self.kv.visit_rows(pages, rows, |bytes| {
            hasher.update(bytes);
        });
        *hasher.finalize().as_bytes()
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("cpu", &self.cpu)
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

/// What all layers look at.
fn looks<'a>(batch: &Batch<'a>) -> Looks<'a> {
    Looks::new(batch.positions, batch.spans)
}

pub(crate) fn attention_shape(d: &Description, kind: LayerKind) -> AttentionShape {
    AttentionShape {
        heads: d.heads,
        kv_heads: d.kv_heads,
        head_dim: d.head_dim,
        scale: d.attention_scale,
        window: kind.window,
        softcap: d.attention_softcap,
    }
}

/// Memory of a step, for as many rows as a batch may hold.
struct Scratch {
    x: Vec<f32>,
    normed: Vec<f32>,
    spare: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    input: Input,
    attention: AttentionScratch,
}

impl Scratch {
    fn new(d: &Description, rows_max: usize) -> Self {
        let (q, k) = (d.heads * d.head_dim, d.kv_heads * d.head_dim);
        let zeros = |cols: usize| vec![0.0; rows_max * cols];
        Self {
            x: zeros(d.dim),
            normed: zeros(d.dim),
            spare: zeros(d.dim.max(k)),
            q: zeros(q),
            k: zeros(k),
            v: zeros(k),
            attended: zeros(q),
            gate: zeros(d.ffn),
            up: zeros(d.ffn),
            input: Input::new(),
            attention: AttentionScratch::new(),
        }
    }

    /// The part of it that a batch of `rows` uses.
    fn rows(&mut self, d: &Description, rows: usize) -> Rows<'_> {
        let (q, k) = (d.heads * d.head_dim, d.kv_heads * d.head_dim);
        Rows {
            x: &mut self.x[..rows * d.dim],
            normed: &mut self.normed[..rows * d.dim],
            spare: &mut self.spare,
            q: &mut self.q[..rows * q],
            k: &mut self.k[..rows * k],
            v: &mut self.v[..rows * k],
            attended: &mut self.attended[..rows * q],
            gate: &mut self.gate[..rows * d.ffn],
            up: &mut self.up[..rows * d.ffn],
            input: &mut self.input,
            attention: &mut self.attention,
        }
    }
}

/// Activations of one batch.
struct Rows<'s> {
    /// The residual stream, `[T, C]`.
    x: &'s mut [f32],
    /// `[T, C]`: what comes back to be added to `x`.
    normed: &'s mut [f32],
    /// Room for one normed copy of `k` or `normed`.
    spare: &'s mut [f32],
    /// `[T, Q]`
    q: &'s mut [f32],
    /// `[T, K]`
    k: &'s mut [f32],
    /// `[T, K]`
    v: &'s mut [f32],
    /// `[T, Q]`: what attention gives; room for normed queries before that.
    attended: &'s mut [f32],
    /// `[T, F]`
    gate: &'s mut [f32],
    /// `[T, F]`
    up: &'s mut [f32],
    input: &'s mut Input,
    attention: &'s mut AttentionScratch,
}

impl Rows<'_> {
    /// The residual stream, normed, becomes the input of the products that follow.
    fn normed_input(&mut self, cpu: &Cpu, d: &Description, norm: &[f32]) {
        self.input.set_normed(cpu, d.refine, self.x, (norm, d.norm_eps));
    }

    /// Biases, and the norm of keys.
    fn keys_and_values(&mut self, cpu: &Cpu, layer: &Layer, eps: f32) {
        if let Some(bias) = &layer.bias {
            kernels::add_bias(cpu, self.k, &bias.k);
            kernels::add_bias(cpu, self.v, &bias.v);
        }
        if let Some(norm) = &layer.k_norm {
            let normed = &mut self.spare[..self.k.len()];
            kernels::rms_norm(cpu, self.k, norm, eps, normed);
            self.k.copy_from_slice(normed);
        }
    }

    /// Biases, and the norm of queries.
    fn queries(&mut self, cpu: &Cpu, layer: &Layer, eps: f32) {
        if let Some(bias) = &layer.bias {
            kernels::add_bias(cpu, self.q, &bias.q);
        }
        if let Some(norm) = &layer.q_norm {
            kernels::rms_norm(cpu, self.q, norm, eps, self.attended);
            std::mem::swap(&mut self.q, &mut self.attended);
        }
    }

    /// From the input to `normed`: `down(act(gate) · up)`.
    fn feed_forward(&mut self, cpu: &Cpu, d: &Description, layer: &Layer) {
        let (w, out) = ([&layer.gate, &layer.up], [&mut *self.gate, &mut *self.up]);
        kernels::matmul_each(cpu, w, self.input, out);
        self.input.set_gated(cpu, d.refine, d.gate, (self.gate, self.up), d.ffn);
        kernels::matmul(cpu, &layer.down, self.input, self.normed);
    }

    /// Adds `normed`, normed once more where the architecture has post norms.
    fn add_normed(&mut self, cpu: &Cpu, post_norm: Option<&[f32]>, eps: f32) {
        let Some(norm) = post_norm else { return kernels::add(cpu, self.x, self.normed) };
        let out = &mut self.spare[..self.normed.len()];
        kernels::rms_norm(cpu, self.normed, norm, eps, out);
        kernels::add(cpu, self.x, out);
    }
}

/// Positions whose angles are held in memory; further ones are computed when asked for. More than
/// any model is trained for, and a bound on what a wild configuration can ask for.
pub(crate) const ROPE_POSITIONS_MAX: usize = 1 << 20;

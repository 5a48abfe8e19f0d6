//! The forward pass on a device: what `decoder.rs` computes, op by op in the same order.
//!
//! Nothing here waits for the device, copies, or allocates: what is issued for a number of rows is
//! the same each time, so that it can be recorded.

use super::angles::Angles;
use super::parts::Parts;
use super::plans::Plans;
use super::room::{Room, Tables};
use super::weighing::Weighing;
use crate::Weight;
use crate::decoder::attention_shape;
use crate::description::Description;
use kernels::Refine;
use kernels::cuda::{
    self, Addends, Buffer, EmbedTable, GatedRows, Gpu, GpuChoices, GpuError, GpuKvPool, GpuKvRows,
    GpuMatrix, GpuQueries, HeadNorms, HeadRows, MatmulScratch, RowNorm,
};

/// Weights, pages, and the memory that a step goes through.
pub(super) struct Pass {
    pub(super) gpu: Gpu,
    pub(super) description: Description,
    pub(super) parts: Parts,
    pub(super) angles: Angles,
    pub(super) kv: GpuKvPool,
    pub(super) room: Room,
    pub(super) tables: Tables,
    pub(super) plans: Plans,
    pub(super) products: MatmulScratch,
    pub(super) weighing: Weighing,
    pub(super) choices: GpuChoices,
    /// The layer whose feed-forward branch is to be normed and added to the residual stream.
    pub(super) pending: Option<usize>,
}

/// What a layer is computed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// The residual stream behind it.
    All,
    /// Its K and V alone.
    KvOnly,
    /// The residual stream, and what rows weigh.
    Weigh(Weight),
    /// The residual stream, over K and V that pages hold.
    Reread,
    /// The same, of the rows that are gone on with.
    Few,
    /// How far its V is from what pages hold.
    Deviate,
}

/// What becomes of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The host reads whole rows.
    Rows,
    /// It reads what choices are made of, with so many of the likeliest tokens.
    Choices(usize),
}

impl Pass {
    /// A step in which every row has logits: all of it.
    pub(super) fn decode(&mut self, rows: usize, end: End) -> Result<(), GpuError> {
        self.embed(rows)?;
        for index in 0..self.description.layers.len() {
            self.layer(index, rows, Task::All)?;
        }
        self.head(rows, None)?;
        self.end(rows, end)
    }

    /// Fills the residual stream with the tokens of the tables.
    pub(super) fn embed(&mut self, rows: usize) -> Result<(), GpuError> {
        let Self { gpu, description: d, parts, room, tables, .. } = self;
        let embed = &parts.embed;
        let (format, bytes) = (embed.format(), embed.blocks());
        let table = EmbedTable { format, bytes, cols: d.dim, scale: d.embed_scale };
        self.pending = None;
        cuda::embed(gpu, &table, (&tables.tokens(), rows), &mut room.x) // [T, C]
    }

    /// One layer: writes K and V of all rows, then, unless only those are wanted, adds attention and
    /// the feed-forward layer to the residual stream.
    pub(super) fn layer(&mut self, index: usize, rows: usize, task: Task) -> Result<(), GpuError> {
        self.project(index, rows)?;
        match task {
            Task::All | Task::KvOnly | Task::Weigh(_) => self.append(index, rows)?,
            Task::Reread | Task::Few => self.norm_queries(index, rows)?,
            Task::Deviate => return self.deviate(index, rows),
        }
        if task == Task::KvOnly {
            return Ok(());
        }
        if let Task::Weigh(by) = task {
            self.weigh(index, rows, by)?;
        }
        self.attend(index, rows, task)?;
        self.feed_forward(index, rows)
    }

    /// Norms the residual stream, and multiplies it into queries, keys and values with their biases.
    fn project(&mut self, index: usize, rows: usize) -> Result<(), GpuError> {
        let fine = self.is_fine();
        let pending = self.pending.take();
        let Self { gpu, description: d, parts, room, products, .. } = self;
        let layer = &parts.layers[index];
        let (x, branch, out) = room.stream_and_input(fine);
        let norm = RowNorm {
            add: pending.map(|_| branch),
            add_weight: pending.and_then(|layer| parts.layers[layer].post_ffn_norm.as_ref()),
            weight: &layer.attention_norm,
            eps: d.norm_eps,
            rows,
        };
        cuda::rms_norm(gpu, x, &norm, &out)?;
        layer.qkv.multiply(gpu, &room.input(rows, fine), products, &room.wide)
    }

    /// Rotated keys, and values, into pages; queries are normed on the way.
    fn append(&mut self, index: usize, rows: usize) -> Result<(), GpuError> {
        let Self { gpu, description: d, parts, angles, kv, room, tables, .. } = self;
        let layer = &parts.layers[index];
        let [q, k, v] = [0, 1, 2].map(|part| layer.qkv.outputs(part, rows, &room.wide));
        let norms = layer.head_norms.as_ref().map(|[q_weight, k_weight]| HeadNorms {
            q: HeadRows { numbers: &q.numbers, stride: q.stride },
            heads: d.heads,
            q_weight,
            k_weight,
            eps: d.norm_eps,
        });
        let at = GpuKvRows {
            layer: index,
            rows,
            k: HeadRows { numbers: &k.numbers, stride: k.stride },
            v: HeadRows { numbers: &v.numbers, stride: v.stride },
            norms,
            positions: &tables.positions(),
            writes: &tables.writes,
            rope: angles.of(d.layers[index]),
        };
        cuda::kv_append(gpu, kv, &at)
    }

    /// The norm of queries whose keys are in pages already.
    fn norm_queries(&mut self, index: usize, rows: usize) -> Result<(), GpuError> {
        let Self { gpu, description: d, parts, room, .. } = self;
        let layer = &parts.layers[index];
        let Some([weight, _]) = &layer.head_norms else { return Ok(()) };
        let q = layer.qkv.outputs(0, rows, &room.wide);
        let q = HeadRows { numbers: &q.numbers, stride: q.stride };
        cuda::head_norm(gpu, q, (rows, d.heads), weight, d.norm_eps)
    }

    /// From queries to the residual stream.
    fn attend(&mut self, index: usize, rows: usize, task: Task) -> Result<(), GpuError> {
        let fine = self.is_fine();
        let Self { gpu, description: d, parts, angles, kv, room, plans, products, .. } = self;
        let (layer, kind) = (&parts.layers[index], d.layers[index]);
        let q = layer.qkv.outputs(0, rows, &room.wide);
        let q = HeadRows { numbers: &q.numbers, stride: q.stride };
        let queries = GpuQueries { layer: index, q, rope: angles.of(kind) };
        let plan = if task == Task::Few { plans.of_few() } else { plans.of_batch(kind.window) };
        let (_, _, out) = room.stream_and_input(fine);
        cuda::attention(gpu, kv, &attention_shape(d, kind), &queries, plan, &out)?;
        let is_normed = layer.post_attention_norm.is_some();
        come_back(gpu, room, &layer.attention_out, products, (rows, fine, is_normed))
    }

    /// Norms the residual stream, and adds `down(act(gate) · up)` to it, or leaves it pending.
    fn feed_forward(&mut self, index: usize, rows: usize) -> Result<(), GpuError> {
        let fine = self.is_fine();
        let Self { gpu, description: d, parts, room, products, .. } = self;
        let layer = &parts.layers[index];
        let post_norm = layer.post_attention_norm.as_ref();
        let (x, branch, out) = room.stream_and_input(fine);
        let norm = RowNorm {
            add: post_norm.map(|_| branch),
            add_weight: post_norm,
            weight: &layer.ffn_norm,
            eps: d.norm_eps,
            rows,
        };
        cuda::rms_norm(gpu, x, &norm, &out)?;
        layer.gate_up.multiply(gpu, &room.input(rows, fine), products, &room.wide)?;

        let [g, u] = [0, 1].map(|part| layer.gate_up.outputs(part, rows, &room.wide));
        let (cols, stride) = (d.ffn, g.stride);
        let of = GatedRows { g: &g.numbers, u: &u.numbers, rows, cols, stride };
        let (_, _, out) = room.stream_and_input(fine);
        cuda::gated(gpu, d.gate, &of, &out)?;
        let is_normed = layer.post_ffn_norm.is_some();
        come_back(gpu, room, &layer.down, products, (rows, fine, is_normed))?;
        self.pending = is_normed.then_some(index);
        Ok(())
    }

    /// How far V of each row is from what pages hold.
    fn deviate(&mut self, index: usize, rows: usize) -> Result<(), GpuError> {
        let Self { gpu, parts, kv, room, tables, weighing, .. } = self;
        let v = parts.layers[index].qkv.outputs(2, rows, &room.wide);
        let v = HeadRows { numbers: &v.numbers, stride: v.stride };
        cuda::kv_deviation(gpu, kv, index, (&tables.writes, rows, v), &mut weighing.deviations)
    }

    /// What the rows of the runs weigh with those of the batch, in one layer.
    fn weigh(&mut self, index: usize, rows: usize, by: Weight) -> Result<(), GpuError> {
        let Self { gpu, description: d, parts, angles, kv, room, plans, weighing, .. } = self;
        let (layer, kind) = (&parts.layers[index], d.layers[index]);
        let q = layer.qkv.outputs(0, rows, &room.wide);
        let q = HeadRows { numbers: &q.numbers, stride: q.stride };
        let queries = GpuQueries { layer: index, q, rope: angles.of(kind) };
        let (mut mass, mut norms) = weighing.of_layer(index, by);
        let plan = plans.of_mass(kind.window);
        let shape = attention_shape(d, kind);
        cuda::attention_mass(gpu, kv, &shape, &queries, plan, &mut mass)?;
        match by {
            Weight::Attention => Ok(()),
            Weight::Influence => cuda::kv_norm(gpu, kv, index, weighing.at(), &mut norms),
        }
    }

    /// Moves the rows with logits to the front of the residual stream.
    pub(super) fn narrow(&mut self, count: usize) -> Result<(), GpuError> {
        let Self { gpu, description: d, room, tables, .. } = self;
        room.narrow(gpu, (&tables.logits_rows(), count), d.dim)
    }

    /// Logits of all `rows` rows, or of as many as the tables name.
    pub(super) fn head(&mut self, rows: usize, named: Option<usize>) -> Result<(), GpuError> {
        let mut pending = self.pending.take();
        let Self { gpu, description: d, parts, room, tables, products, .. } = self;
        let post_norm = |layer: usize| parts.layers[layer].post_ffn_norm.as_ref();
        let (weight, eps) = (&parts.final_norm, d.norm_eps);
        let mut count = rows;
        if let Some(named) = named {
            if let Some(layer) = pending.take() {
                let (x, branch, _) = room.stream_and_input(true);
                let (add, add_weight) = (Some(branch), post_norm(layer));
                cuda::add_rows(gpu, x, &RowNorm { add, add_weight, weight, eps, rows })?;
            }
            room.narrow(gpu, (&tables.logits_rows(), named), d.dim)?;
            count = named;
        }
        // Nothing after them evens out what rounding leaves of these rows.
        let (x, branch, out) = room.stream_and_input(true);
        let (add, add_weight) = (pending.map(|_| branch), pending.and_then(post_norm));
        cuda::rms_norm(gpu, x, &RowNorm { add, add_weight, weight, eps, rows: count }, &out)?;
        let mut logits = room.logits.part(0..count * d.vocab);
        let (input, plain) = (room.input(count, true), Addends::default());
        cuda::matmul(gpu, parts.output(), &input, (products, plain), &mut logits)?; // [wanted, vocab]
        match d.final_softcap {
            Some(cap) => cuda::softcap(gpu, &mut logits, count * d.vocab, cap),
            None => Ok(()),
        }
    }

    /// Finds what is read of the logits of so many rows.
    pub(super) fn end(&mut self, rows: usize, end: End) -> Result<(), GpuError> {
        let Self { gpu, room, choices, .. } = self;
        match end {
            End::Choices(count) if rows > 0 => choices.find(gpu, &room.logits, (rows, count)),
            _ => Ok(()),
        }
    }

    /// What rounding to bf16 leaves of activations is multiplied as well.
    fn is_fine(&self) -> bool {
        self.description.refine == Refine::Always
    }
}

/// A product that ends in the residual stream, or in the branch that is normed before it is added.
fn come_back(
    gpu: &Gpu,
    room: &Room,
    matrix: &GpuMatrix,
    scratch: &mut MatmulScratch,
    (rows, fine, is_normed): (usize, bool, bool),
) -> Result<(), GpuError> {
    let to: &Buffer<f32> = if is_normed { &room.branch } else { &room.x };
    let mut to = to.part(0..rows * matrix.rows());
    let addends = Addends { bias: None, out: !is_normed };
    cuda::matmul(gpu, matrix, &room.input(rows, fine), (scratch, addends), &mut to)
}

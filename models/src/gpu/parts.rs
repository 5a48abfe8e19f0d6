//! A model's weights on a device: every tensor that a [`Description`] names, as it lies in the file.

use super::products::Products;
use super::supply::Supply;
use crate::LoadError;
use crate::description::Description;
use kernels::cuda::{Buffer, Gpu, GpuError, GpuMatrix};

/// All weights of a decoder.
pub(super) struct Parts {
    /// `[vocab, dim]`
    pub(super) embed: GpuMatrix,
    pub(super) layers: Vec<Layer>,
    /// `[dim]`
    pub(super) final_norm: Buffer<f32>,
    /// `[vocab, dim]`; none where the embedding table serves.
    output: Option<GpuMatrix>,
}

/// Weights of one transformer layer. Letters as in `decoder.rs`.
pub(super) struct Layer {
    /// `[C]`
    pub(super) attention_norm: Buffer<f32>,
    /// `[Q, C]`, `[K, C]`, `[K, C]`
    pub(super) qkv: Products,
    /// `[head_dim]`: of queries, and of keys.
    pub(super) head_norms: Option<[Buffer<f32>; 2]>,
    /// `[C, Q]`
    pub(super) attention_out: GpuMatrix,
    /// `[C]`
    pub(super) post_attention_norm: Option<Buffer<f32>>,
    /// `[C]`
    pub(super) ffn_norm: Buffer<f32>,
    /// Twice `[F, C]`
    pub(super) gate_up: Products,
    /// `[C, F]`
    pub(super) down: GpuMatrix,
    /// `[C]`
    pub(super) post_ffn_norm: Option<Buffer<f32>>,
}

impl Parts {
    /// Copies every tensor to the device.
    ///
    /// # Errors
    /// A tensor is missing, has another shape, or has no place in the description; or the device has
    /// not so much memory left.
    pub(super) fn load(
        gpu: &Gpu,
        d: &Description,
        supply: &mut Supply<'_>,
    ) -> Result<Self, LoadError> {
        let mut loader = Loader { gpu, d, supply };
        let embed = loader.matrix(d.names.embed, d.vocab, d.dim)?;
        let layers = (0..d.layers.len()).map(|i| loader.layer(i)).collect::<Result<_, _>>()?;
        let final_norm = loader.norm(d.names.final_norm, d.dim)?;
        let output = (!d.tied).then(|| loader.matrix(d.names.output, d.vocab, d.dim));
        let output = output.transpose()?;
        supply.finish()?;
        Ok(Self { embed, layers, final_norm, output })
    }

    /// `[vocab, dim]`, from the residual stream to logits.
    pub(super) fn output(&self) -> &GpuMatrix {
        self.output.as_ref().unwrap_or(&self.embed)
    }

    /// The matrices of all layers.
    pub(super) fn layer_matrices(&self) -> impl Iterator<Item = &GpuMatrix> {
        self.layers.iter().flat_map(|layer| {
            let Layer { qkv, attention_out, gate_up, down, .. } = layer;
            qkv.matrices().chain([attention_out]).chain(gate_up.matrices()).chain([down])
        })
    }

    /// What activations are multiplied by.
    pub(super) fn multiplied(&self) -> impl Iterator<Item = &GpuMatrix> {
        self.layer_matrices().chain([self.output()])
    }

    /// Keeps the bf16 of everything that activations are multiplied by.
    pub(super) fn keep_dense(&mut self, gpu: &Gpu) -> Result<(), GpuError> {
        for layer in &mut self.layers {
            let Layer { qkv, attention_out, gate_up, down, .. } = layer;
            let products = qkv.matrices_mut().chain(gate_up.matrices_mut());
            for matrix in products.chain([attention_out, down]) {
                if is_made(matrix) {
                    matrix.keep_dense(gpu)?;
                }
            }
        }
        let output = self.output.as_mut().unwrap_or(&mut self.embed);
        if is_made(output) { output.keep_dense(gpu) } else { Ok(()) }
    }

    /// Bytes that the bf16 of all matrices would take, and those of the largest: of those whose bf16
    /// are not what lies in the file.
    pub(super) fn dense_bytes(&self) -> (usize, usize) {
        let made = self.multiplied().filter(|matrix| is_made(matrix));
        let bytes = made.map(|matrix| matrix.rows() * matrix.cols() * size_of::<half::bf16>());
        bytes.fold((0, 0), |(all, largest), bytes| (all + bytes, largest.max(bytes)))
    }

    /// Bytes of all matrices. Norms and biases are too small to count.
    pub(super) fn bytes(&self) -> usize {
        let output = self.output.as_ref().map_or(0, GpuMatrix::bytes);
        self.layer_matrices().map(GpuMatrix::bytes).sum::<usize>() + self.embed.bytes() + output
    }
}

/// Tensor cores multiply something else than what lies in the file.
fn is_made(matrix: &GpuMatrix) -> bool {
    matrix.format() != kernels::BlockFormat::Bf16
}

/// What copies tensors to a device.
struct Loader<'l, 'a> {
    gpu: &'l Gpu,
    d: &'l Description,
    supply: &'l mut Supply<'a>,
}

impl Loader<'_, '_> {
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<GpuMatrix, LoadError> {
        self.supply.matrix(self.gpu, &[(name.to_owned(), rows)], cols)
    }

    fn norm(&mut self, name: &str, len: usize) -> Result<Buffer<f32>, LoadError> {
        Ok(Buffer::of(self.gpu, &self.supply.norm(name, len)?)?)
    }

    fn layer(&mut self, index: usize) -> Result<Layer, LoadError> {
        let d = self.d;
        let name = |part: &str| d.names.of_layer(index, part);
        let (n, dim, ffn, head) = (d.names, d.dim, d.ffn, d.head_dim);
        let (q, k) = (d.heads * head, d.kv_heads * head);
        let qkv = [(name(n.q), q), (name(n.k), k), (name(n.v), k)];
        let gate_up = [(name(n.gate), ffn), (name(n.up), ffn)];
        let head_norms = if d.qk_norm {
            Some([self.norm(&name(n.q_norm), head)?, self.norm(&name(n.k_norm), head)?])
        } else {
            None
        };
        let (attention, feed_forward) = (name(n.post_attention_norm), name(n.post_ffn_norm));
        let mut post_norm = |name: &str| d.post_norms.then(|| self.norm(name, dim)).transpose();
        let post_attention_norm = post_norm(&attention)?;
        let post_ffn_norm = post_norm(&feed_forward)?;
        Ok(Layer {
            attention_norm: self.norm(&name(n.attention_norm), dim)?,
            qkv: Products::load(self.gpu, self.supply, (&qkv, dim), d.qkv_bias)?,
            head_norms,
            attention_out: self.matrix(&name(n.attention_out), dim, q)?,
            post_attention_norm,
            ffn_norm: self.norm(&name(n.ffn_norm), dim)?,
            gate_up: Products::load(self.gpu, self.supply, (&gate_up, dim), false)?,
            down: self.matrix(&name(n.down), dim, ffn)?,
            post_ffn_norm,
        })
    }
}

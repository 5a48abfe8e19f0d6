//! A model's weights in memory: every tensor that a [`Description`] names, checked and packed.

use crate::description::Description;
use crate::shelf::Shelf;
use crate::{LoadError, Weights};
use kernels::{Arena, Cpu, Matrix};

/// All weights of a decoder.
pub(crate) struct Parts {
    /// `[vocab, dim]`
    pub(crate) embed: Matrix,
    pub(crate) layers: Vec<Layer>,
    /// `[dim]`
    pub(crate) final_norm: Vec<f32>,
    /// `[vocab, dim]`; none where the embedding table serves.
    output: Option<Matrix>,
}

/// Weights of one transformer layer. Letters as in `decoder.rs`.
pub(crate) struct Layer {
    /// `[C]`
    pub(crate) attention_norm: Vec<f32>,
    /// `[Q, C]`
    pub(crate) q: Matrix,
    /// `[K, C]`
    pub(crate) k: Matrix,
    /// `[K, C]`
    pub(crate) v: Matrix,
    pub(crate) bias: Option<Bias>,
    /// `[head_dim]`
    pub(crate) q_norm: Option<Vec<f32>>,
    /// `[head_dim]`
    pub(crate) k_norm: Option<Vec<f32>>,
    /// `[C, Q]`
    pub(crate) attention_out: Matrix,
    /// `[C]`
    pub(crate) post_attention_norm: Option<Vec<f32>>,
    /// `[C]`
    pub(crate) ffn_norm: Vec<f32>,
    /// `[F, C]`
    pub(crate) gate: Matrix,
    /// `[F, C]`
    pub(crate) up: Matrix,
    /// `[C, F]`
    pub(crate) down: Matrix,
    /// `[C]`
    pub(crate) post_ffn_norm: Option<Vec<f32>>,
}

/// Biases of Q, K and V.
pub(crate) struct Bias {
    pub(crate) q: Vec<f32>,
    pub(crate) k: Vec<f32>,
    pub(crate) v: Vec<f32>,
}

impl Parts {
    /// Packs every tensor, and lets go of its bytes in the mapped file.
    ///
    /// # Errors
    /// A tensor is missing, has another shape, or has no place in the description.
    pub(crate) fn load(
        cpu: &Cpu,
        description: &Description,
        weights: &Weights,
    ) -> Result<Self, LoadError> {
        let d = description;
        let mut packer = Packer { cpu, shelf: Shelf::new(d, weights), arena: Arena::new() };
        let embed = packer.matrix(d.names.embed, d.vocab, d.dim)?;
        let layers = (0..d.layers.len()).map(|i| packer.layer(i)).collect::<Result<_, _>>()?;
        let final_norm = packer.shelf.norm(d.names.final_norm, d.dim)?;
        let output = (!d.tied).then(|| packer.matrix(d.names.output, d.vocab, d.dim));
        let output = output.transpose()?;
        packer.shelf.finish()?;
        Ok(Self { embed, layers, final_norm, output })
    }

    /// `[vocab, dim]`, from the residual stream to logits.
    pub(crate) fn output(&self) -> &Matrix {
        self.output.as_ref().unwrap_or(&self.embed)
    }

    /// Bytes of all matrices. Norms and biases are too small to count.
    pub(crate) fn bytes(&self) -> usize {
        let layers: usize = self.layer_matrices().map(Matrix::bytes).sum();
        layers + self.embed.bytes() + self.output.as_ref().map_or(0, Matrix::bytes)
    }

    /// The matrices of all layers.
    pub(crate) fn layer_matrices(&self) -> impl Iterator<Item = &Matrix> {
        let layers = self.layers.iter();
        layers.flat_map(|l| [&l.q, &l.k, &l.v, &l.attention_out, &l.gate, &l.up, &l.down])
    }
}

/// What packs a file's tensors.
struct Packer<'a> {
    cpu: &'a Cpu,
    shelf: Shelf<'a>,
    /// Where matrices lie.
    arena: Arena,
}

impl Packer<'_> {
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Matrix, LoadError> {
        let tensor = self.shelf.matrix(name, rows, cols)?;
        let place = (self.cpu, &mut self.arena);
        let matrix = Matrix::pack_in(place, tensor.format, rows, cols, tensor.bytes)
            .map_err(|error| LoadError::bad_tensor(tensor.name, error.to_string()))?;
        self.shelf.release(&tensor);
        Ok(matrix)
    }

    fn biases(&mut self, index: usize) -> Result<Bias, LoadError> {
        let d = self.shelf.description;
        let (q, k) = (d.heads * d.head_dim, d.kv_heads * d.head_dim);
        Ok(Bias {
            q: self.shelf.bias(&d.names.of_layer(index, d.names.q), q)?,
            k: self.shelf.bias(&d.names.of_layer(index, d.names.k), k)?,
            v: self.shelf.bias(&d.names.of_layer(index, d.names.v), k)?,
        })
    }

    fn layer(&mut self, index: usize) -> Result<Layer, LoadError> {
        let d = self.shelf.description;
        let name = |part: &str| d.names.of_layer(index, part);
        let (n, dim, ffn, head) = (d.names, d.dim, d.ffn, d.head_dim);
        let (q, k) = (d.heads * head, d.kv_heads * head);
        Ok(Layer {
            attention_norm: self.shelf.norm(&name(n.attention_norm), dim)?,
            q: self.matrix(&name(n.q), q, dim)?,
            k: self.matrix(&name(n.k), k, dim)?,
            v: self.matrix(&name(n.v), k, dim)?,
            bias: d.qkv_bias.then(|| self.biases(index)).transpose()?,
            q_norm: d.qk_norm.then(|| self.shelf.norm(&name(n.q_norm), head)).transpose()?,
            k_norm: d.qk_norm.then(|| self.shelf.norm(&name(n.k_norm), head)).transpose()?,
            attention_out: self.matrix(&name(n.attention_out), dim, q)?,
            post_attention_norm: d
                .post_norms
                .then(|| self.shelf.norm(&name(n.post_attention_norm), dim))
                .transpose()?,
            ffn_norm: self.shelf.norm(&name(n.ffn_norm), dim)?,
            gate: self.matrix(&name(n.gate), ffn, dim)?,
            up: self.matrix(&name(n.up), ffn, dim)?,
            down: self.matrix(&name(n.down), dim, ffn)?,
            post_ffn_norm: d
                .post_norms
                .then(|| self.shelf.norm(&name(n.post_ffn_norm), dim))
                .transpose()?,
        })
    }
}

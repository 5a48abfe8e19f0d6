//! A decoder wherever it runs.

use crate::{Batch, Choices, Decoder, GpuDecoder, Model, ModelShape, Weight};
use kernels::PageId;

/// A decoder on the CPU or on a GPU.
#[derive(Debug)]
pub enum AnyDecoder {
    /// On the CPU.
    Cpu(Box<Decoder>),
    /// On a GPU.
    Gpu(Box<GpuDecoder>),
}

/// The same call of whichever it is.
macro_rules! either {
    ($of:expr, $decoder:ident => $call:expr) => {
        match $of {
            AnyDecoder::Cpu($decoder) => $call,
            AnyDecoder::Gpu($decoder) => $call,
        }
    };
}

impl AnyDecoder {
    /// Products of a weight and an activation that the layers do for one row.
    pub fn layer_products(&self) -> usize {
        either!(self, decoder => decoder.layer_products())
    }

    /// Products that attention of one row does for each row of KV that it sees in all layers.
    pub fn attention_products(&self) -> usize {
        either!(self, decoder => decoder.attention_products())
    }

    /// Bytes of weights that decoding one token reads.
    pub fn weight_bytes_per_token(&self) -> usize {
        either!(self, decoder => decoder.weight_bytes_per_token())
    }

    /// Bytes of weights held in memory, of the machine or of the device.
    pub fn weight_bytes(&self) -> usize {
        either!(self, decoder => decoder.weight_bytes())
    }

    /// It runs on a GPU: what a row gives then depends on the shape of the batch, by rounding.
    pub fn is_on_gpu(&self) -> bool {
        matches!(self, Self::Gpu(_))
    }
}

impl Model for AnyDecoder {
    fn shape(&self) -> &ModelShape {
        either!(self, decoder => decoder.shape())
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut Vec<f32>) {
        either!(self, decoder => decoder.forward(batch, logits));
    }

    fn choices(&mut self) -> Option<&mut dyn Choices> {
        either!(self, decoder => decoder.choices())
    }

    fn weigh(&mut self, batch: &Batch<'_>, by: Weight, mass: &mut [u64], logits: &mut Vec<f32>) {
        either!(self, decoder => decoder.weigh(batch, by, mass, logits));
    }

    fn deviate(&mut self, batch: &Batch<'_>, deviations: &mut [f64]) {
        either!(self, decoder => decoder.deviate(batch, deviations));
    }

    fn copy_rows(&mut self, from: PageId, to: PageId, rows: usize) {
        either!(self, decoder => decoder.copy_rows(from, to, rows));
    }

    fn read_rows(&self, pages: &[PageId], rows: usize, kv: &mut Vec<u8>) {
        either!(self, decoder => decoder.read_rows(pages, rows, kv));
    }

    fn fill_rows(&mut self, pages: &[PageId], rows: usize, kv: &[u8]) {
        either!(self, decoder => decoder.fill_rows(pages, rows, kv));
    }

    fn digest(&self, pages: &[PageId], rows: usize) -> [u8; 32] {
        either!(self, decoder => decoder.digest(pages, rows))
    }
}

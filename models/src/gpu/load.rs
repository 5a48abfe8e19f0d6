//! A decoder on a device: weights, then what a step needs, then pages from the memory that is left.

use super::angles::Angles;
use super::graphs::Graphs;
use super::parts::Parts;
use super::pass::Pass;
use super::plans::Plans;
use super::room::{Room, Tables};
use super::supply::Supply;
use super::weighing::Weighing;
use super::{GpuDecoder, RandomModel};
use crate::description::Description;
use crate::load::{context_max, describe, kv_layout, logits_rows_max};
use crate::narrow::Narrow;
use crate::shelf::Shelf;
use crate::source::Source;
use crate::{Batch, LoadError, LoadOptions, ModelInfo, ModelShape};
use kernels::cuda::{Gpu, GpuChoices, GpuError, GpuKvPool, MatmulScratch, Pinned};
use kernels::{DEVICE_KV_VERSION, DeviceKvLayout, PageId, RowAddr, Run, Span};
use std::path::Path;

impl GpuDecoder {
    /// Loads weights alone, for a model without a tokenizer; [`crate::load`] takes a device by itself.
    ///
    /// # Errors
    /// As [`crate::load`], and when the device cannot hold or run the model.
    pub fn load(
        gpu: &Gpu,
        path: &Path,
        options: &LoadOptions,
        tokenizer_fingerprint: &[u8; 32],
    ) -> Result<(Self, ModelInfo), LoadError> {
        let source = Source::open(path)?;
        let fingerprint = fingerprint(&source, options, tokenizer_fingerprint);
        Self::of_source(gpu, &source, options, fingerprint)
    }

    pub(crate) fn of_source(
        gpu: &Gpu,
        source: &Source,
        options: &LoadOptions,
        fingerprint: [u8; 32],
    ) -> Result<(Self, ModelInfo), LoadError> {
        let (arch, description) = describe(source, options)?;
        let device = gpu.device();
        let mut info = source.info(arch, &description, format!("sm_{}", device.architecture()));
        info.device = device.to_string();
        let shelved = description.clone();
        let supply = Supply::File(Shelf::new(&shelved, source.weights()));
        let decoder = Self::build(gpu, (description, supply), options, fingerprint)?;
        info.notes.clone_from(&decoder.notes);
        Ok((decoder, info))
    }

    /// A model of these sizes with random weights in bf16, made on the device and always the same: to
    /// measure, as what it says means nothing.
    ///
    /// # Errors
    /// When the device cannot hold or run it.
    pub fn random(
        gpu: &Gpu,
        model: &RandomModel,
        options: &LoadOptions,
    ) -> Result<Self, LoadError> {
        let supply = Supply::Random { made: 0 };
        Self::build(gpu, (model.description(), supply), options, [0; 32])
    }

    fn build(
        gpu: &Gpu,
        (description, mut supply): (Description, Supply<'_>),
        options: &LoadOptions,
        fingerprint: [u8; 32],
    ) -> Result<Self, LoadError> {
        let d = description;
        let batch_rows_max = options.batch_rows_max_gpu;
        let options = &LoadOptions { batch_rows_max, ..options.clone() };
        let layout = DeviceKvLayout::new(kv_layout(options, &d)?)
            .map_err(|error| LoadError::BadOption(error.to_string()))?;
        let mut shape = ModelShape {
            vocab: d.vocab,
            context_max: context_max(options, &d)?,
            layers: d.layers.len(),
            page_rows: options.page_rows,
            pages: 0,
            page_bytes: layout.page_bytes(),
            row_bytes: layout.bytes_of(1),
            batch_rows_max: options.batch_rows_max,
            logits_rows_max: logits_rows_max(options, &d),
            fingerprint,
        };
        let mut parts = Parts::load(gpu, &d, &mut supply)?;
        drop(supply);
        let angles = Angles::new(gpu, &d, shape.context_max)?;
        let room = Room::new(gpu, &d, &shape)?;
        let tables = Tables::new(gpu, shape.batch_rows_max)?;
        let plans = Plans::new(gpu, &d, options.share_reads)?;
        let weighing = Weighing::new(gpu, shape.batch_rows_max)?;
        let count = GpuChoices::count_max(shape.vocab);
        let choices = GpuChoices::new(gpu, shape.logits_rows_max, shape.vocab, count)?;
        let logits = Pinned::zeroed(gpu, shape.logits_rows_max * shape.vocab)?;
        let mut notes = vec![keep_dense(gpu, &mut parts, options)?];
        let products = MatmulScratch::new(gpu, parts.multiplied())?;
        let (kv, note) = pool(gpu, layout, options)?;
        notes.push(note);
        shape.pages = kv.pages() - 1;
        let gpu = gpu.clone();
        let pass = Pass {
            gpu,
            description: d,
            parts,
            angles,
            kv,
            room,
            tables,
            plans,
            products,
            weighing,
            choices,
            pending: None,
        };
        let (graphs, narrow) = (Graphs::new(), Narrow::default());
        let mut decoder = Self { pass, graphs, narrow, logits, shape, notes };
        decoder.warm_up()?;
        Ok(decoder)
    }

    /// A prompt and a token: kernels that most steps need are compiled, and what is missing on this
    /// machine is missed now.
    fn warm_up(&mut self) -> Result<(), GpuError> {
        let shape = &self.shape;
        let room = shape.pages.saturating_mul(shape.page_rows);
        let rows = WARM_ROWS.min(room).min(shape.batch_rows_max).min(shape.context_max);
        let pages: Vec<_> = (0..rows.div_ceil(shape.page_rows) as u32).map(PageId).collect();
        let tokens = vec![0; rows];
        let positions: Vec<_> = (0..rows as u32).collect();
        let address = |row: &u32| RowAddr {
            page: pages[*row as usize / shape.page_rows],
            row: row % shape.page_rows as u32,
        };
        let writes: Vec<_> = positions.iter().map(address).collect();
        let runs = [Run::new(&pages, rows as u32, 0, 0)];
        let mut choices = Vec::new();
        for first in [0, rows - 1] {
            let spans = [Span::new(0..rows - first, &runs)];
            let batch = Batch {
                tokens: &tokens[first..],
                positions: &positions[first..],
                writes: &writes[first..],
                spans: &spans,
                logits_rows: &[rows - first - 1],
            };
            self.try_choices(&batch, &[0.0], &mut choices)?;
        }
        self.pass.gpu.wait()
    }
}

/// Hash over everything a KV byte depends on besides tokens. Devices are not told apart: they round
/// alike, or as near as batches of another shape do.
pub(crate) fn fingerprint(
    source: &Source,
    options: &LoadOptions,
    tokenizer: &[u8; 32],
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let (page_rows, kv_dtype) = (options.page_rows, options.kv_dtype);
    let what =
        format!("cento gpu kv {GPU_KV_VERSION} {DEVICE_KV_VERSION} {kv_dtype:?} {page_rows}\n");
    hasher.update(what.as_bytes());
    if options.fine_activations {
        hasher.update(b"fine activations\n");
    }
    hasher.update(tokenizer);
    source.hash(&mut hasher);
    *hasher.finalize().as_bytes()
}

/// Keeps the bf16 of all weights where that leaves memory enough for KV, and tells what was decided.
fn keep_dense(gpu: &Gpu, parts: &mut Parts, options: &LoadOptions) -> Result<String, GpuError> {
    let own = gib(parts.bytes());
    let (all, largest) = parts.dense_bytes();
    if all == 0 {
        return Ok(format!("weights: {own} in bf16, as in the file"));
    }
    let (free, _) = gpu.memory()?;
    let for_kv = options.kv_bytes_gpu.unwrap_or(free / 2);
    if all.saturating_add(for_kv).saturating_add(RESERVE) <= free {
        parts.keep_dense(gpu)?;
        return Ok(format!(
            "weights: {own} as in the file, and {} in bf16 for many rows",
            gib(all)
        ));
    }
    Ok(format!(
        "weights: {own} as in the file; bf16 for many rows are made for each product in {}, as all of \
         them, {}, would leave too little memory for KV",
        gib(largest),
        gib(all)
    ))
}

/// As many pages as are asked for and fit, and one that nobody reads.
fn pool(
    gpu: &Gpu,
    layout: DeviceKvLayout,
    options: &LoadOptions,
) -> Result<(GpuKvPool, String), LoadError> {
    let page_bytes = layout.page_bytes();
    let (free, _) = gpu.memory()?;
    let fits = free.saturating_sub(RESERVE);
    let asked = match options.kv_bytes_gpu {
        None if gpu.is_imagined() => options.kv_bytes,
        None => usize::MAX,
        Some(asked) if asked < 2 * page_bytes => {
            let what = format!("{asked} bytes for KV hold no two pages of {page_bytes} bytes");
            return Err(LoadError::BadOption(what));
        }
        Some(asked) => asked,
    };
    let pages = (asked.min(fits) / page_bytes).min(i32::MAX as usize);
    if pages < 2 {
        return Err(GpuError::Memory { bytes: RESERVE + 2 * page_bytes, free }.into());
    }
    let kv = GpuKvPool::new(gpu, layout, pages)?;
    let limit = if asked > fits { ", all that was free" } else { "" };
    let (bytes, kept) = (gib(pages * page_bytes), gib(RESERVE));
    Ok((kv, format!("KV: {bytes}{limit}; {kept} are kept back for steps and compiled kernels")))
}

fn gib(bytes: usize) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

/// Goes up with every change to kernels or launchers that changes a KV byte by more than rounding.
const GPU_KV_VERSION: u32 = 1;

/// Bytes of device memory that are left free: for compiled kernels, recorded steps, the workspace of
/// products, partial states of attention, and angles of far positions.
const RESERVE: usize = 1 << 30;

/// Rows of the prompt that is forwarded first: more than are multiplied without tensor cores.
const WARM_ROWS: usize = 40;

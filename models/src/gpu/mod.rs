//! The decoder on a GPU: the same forward pass as [`crate::Decoder`], over pages in device memory.
//!
//! A step brings its tables to the device once, issues the whole pass, and waits only to read what
//! was asked for: what choices among tokens are made of, or rows of logits. Decode steps are recorded
//! once and issued by one call (`graphs.rs`). Rounding differs from the CPU's, and with the number of
//! rows: few rows meet the weights as they lie in the file, many their nearest bf16.

mod angles;
mod graphs;
mod load;
mod parts;
mod pass;
mod plans;
mod products;
mod random;
mod room;
mod supply;
mod weighing;

pub(crate) use load::fingerprint;
pub use random::RandomModel;

use crate::narrow::Narrow;
use crate::{Batch, Choices, Model, ModelLost, ModelShape, Weight};
use graphs::{Graphs, Way};
use kernels::cuda::{Gpu, GpuError, Grids, Pinned};
use kernels::{Choice, PageId, Span};
use pass::{End, Pass, Task};
use std::fmt;
use std::ops::Range;

/// A model's weights and KV pages on a GPU, and what computes over them.
///
/// As [`Model`] it unwinds with [`ModelLost`] when the device is lost.
pub struct GpuDecoder {
    pass: Pass,
    graphs: Graphs,
    narrow: Narrow,
    logits: Pinned<f32>,
    shape: ModelShape,
    notes: Vec<String>,
}

impl GpuDecoder {
    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.pass.gpu
    }

    /// What was decided about memory, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Decode steps are recorded and issued by one call (as it begins), or op by op: results are the
    /// same to the bit. To measure what it is worth.
    pub fn use_graphs(&mut self, used: bool) {
        self.graphs.are_used = used;
    }

    /// KV pages that several sequences look at are read once for all of them (as it begins, unless the
    /// options say otherwise), or once for each. To measure what it is worth.
    pub fn share_reads(&mut self, shares: bool) {
        self.pass.plans.share_reads(shares);
    }

    /// Products of a weight and an activation that the layers do for one row.
    pub fn layer_products(&self) -> usize {
        self.pass.parts.layer_matrices().map(|matrix| matrix.rows() * matrix.cols()).sum()
    }

    /// Products that attention of one row does for each row of KV that it sees in all layers.
    pub fn attention_products(&self) -> usize {
        self.pass.description.attention_products()
    }

    /// Bytes of weights that decoding one token reads.
    pub fn weight_bytes_per_token(&self) -> usize {
        self.pass.parts.multiplied().map(|matrix| matrix.blocks().bytes()).sum()
    }

    /// Bytes of weights held on the device.
    pub fn weight_bytes(&self) -> usize {
        self.pass.parts.bytes()
    }

    /// [`Model::forward`].
    ///
    /// # Errors
    /// When the device is lost, or has no memory left for what the batch looks at.
    pub fn try_forward(
        &mut self,
        batch: &Batch<'_>,
        logits: &mut Vec<f32>,
    ) -> Result<(), GpuError> {
        self.issue(batch, End::Rows)?;
        self.read_logits(0..batch.logits_rows.len(), logits)
    }

    /// [`Choices::forward_to_choices`].
    ///
    /// # Errors
    /// As [`Self::try_forward`].
    pub fn try_choices(
        &mut self,
        batch: &Batch<'_>,
        temperatures: &[f32],
        choices: &mut Vec<Choice>,
    ) -> Result<(), GpuError> {
        let wanted = batch.logits_rows.len();
        assert_eq!(temperatures.len(), wanted, "a temperature for each row with logits");
        let is_greedy = temperatures.iter().all(|&temperature| temperature <= 0.0);
        let count = if is_greedy { 0 } else { self.pass.choices.count() };
        self.pass.choices.set_temperatures(temperatures)?;
        self.issue(batch, End::Choices(count))?;
        self.pass.choices.read((wanted, count), choices)
    }

    /// Issues a batch, up to what is to be read.
    fn issue(&mut self, batch: &Batch<'_>, end: End) -> Result<(), GpuError> {
        let (rows, wanted) = (batch.tokens.len(), batch.logits_rows.len());
        let is_decode = wanted == rows && batch.spans.len() == rows;
        let most = self.shape.batch_rows_max.min(self.shape.logits_rows_max);
        if let Some(filled) = Graphs::filled(rows, most).filter(|_| is_decode) {
            return self.decode(batch, filled, end);
        }
        self.prepare(batch, rows, Grids::Exact)?;
        self.pass.embed(rows)?;
        let last = self.shape.layers - 1;
        for index in 0..last {
            self.pass.layer(index, rows, Task::All)?;
        }
        // A second pass over some rows pays when they are few.
        if wanted > rows / 2 {
            self.pass.layer(last, rows, Task::All)?;
            self.pass.head(rows, (wanted < rows).then_some(wanted))?;
            return self.pass.end(wanted, end);
        }
        self.pass.layer(last, rows, Task::KvOnly)?;
        if wanted > 0 {
            self.narrow(batch)?;
            self.pass.narrow(wanted)?;
            self.pass.layer(last, wanted, Task::Few)?;
            self.pass.head(wanted, None)?;
        }
        self.pass.end(wanted, end)
    }

    /// A step in which every row is a span of its own and has logits, filled up to `filled` rows.
    fn decode(&mut self, batch: &Batch<'_>, filled: usize, end: End) -> Result<(), GpuError> {
        self.prepare(batch, filled, Grids::Fixed)?;
        let Self { pass, graphs, .. } = self;
        match graphs.way((filled, end), &pass.plans) {
            Way::Plain => pass.decode(filled, end),
            Way::Recorded(graph) => graph.launch(),
            Way::Record(place) => {
                let gpu = pass.gpu.clone();
                match gpu.record(|| pass.decode(filled, end)) {
                    Ok(graph) => place.insert(graph).launch(),
                    Err(error) if error.is_lost() => Err(error),
                    Err(error) => {
                        tracing::warn!(%error, "decode steps are not recorded");
                        graphs.are_used = false;
                        pass.decode(filled, end)
                    }
                }
            }
        }
    }

    /// [`Model::weigh`].
    ///
    /// # Errors
    /// As [`Self::try_forward`].
    pub fn try_weigh(
        &mut self,
        batch: &Batch<'_>,
        by: Weight,
        mass: &mut [u64],
        logits: &mut Vec<f32>,
    ) -> Result<(), GpuError> {
        let [Span { runs, .. }] = *batch.spans else { panic!("one span is weighed at a time") };
        let (rows, wanted) = (batch.tokens.len(), batch.logits_rows.len());
        let (layers, page_rows) = (self.shape.layers, self.shape.page_rows);
        self.prepare(batch, rows, Grids::Exact)?;
        let pass = &mut self.pass;
        pass.plans.plan_mass(&pass.gpu, &pass.kv, (&pass.description, batch))?;
        pass.weighing.begin(&pass.gpu, (runs, page_rows), (by, layers))?;
        pass.embed(rows)?;
        for index in 0..layers {
            pass.layer(index, rows, Task::Weigh(by))?;
        }
        if wanted > 0 {
            pass.head(rows, (wanted < rows).then_some(wanted))?;
        }
        pass.weighing.end((by, layers), mass)?;
        self.read_logits(0..wanted, logits)
    }

    /// [`Model::deviate`].
    ///
    /// # Errors
    /// As [`Self::try_forward`].
    pub fn try_deviate(
        &mut self,
        batch: &Batch<'_>,
        deviations: &mut [f64],
    ) -> Result<(), GpuError> {
        let rows = batch.tokens.len();
        if self.shape.layers == 1 {
            deviations.fill(0.0);
            return Ok(());
        }
        self.prepare(batch, rows, Grids::Exact)?;
        let pass = &mut self.pass;
        pass.embed(rows)?;
        pass.layer(0, rows, Task::Reread)?;
        pass.layer(1, rows, Task::Deviate)?;
        pass.weighing.deviations.part(0..rows).read(deviations)
    }

    /// Brings a batch and its plans to the device, filled up to `rows` rows.
    fn prepare(&mut self, batch: &Batch<'_>, rows: usize, grids: Grids) -> Result<(), GpuError> {
        self.check(batch);
        let Self { pass, graphs, shape, .. } = self;
        // The pool has one page that the engine does not know of.
        let nowhere = PageId(shape.pages as u32);
        pass.tables.upload(batch, rows, nowhere)?;
        let of = (&pass.description, batch);
        let moved = pass.plans.plan(&pass.gpu, &pass.kv, of, grids)?;
        let written = batch.positions.iter().max().map_or(0, |&position| position as usize + 1);
        let positions = pass.plans.positions().max(written);
        if pass.angles.reach(&pass.gpu, positions)? | moved {
            graphs.clear();
        }
        Ok(())
    }

    /// Plans the last layer for the rows with logits alone.
    fn narrow(&mut self, batch: &Batch<'_>) -> Result<(), GpuError> {
        let Self { pass, narrow, .. } = self;
        let mut planned = Ok(());
        narrow.with(batch, |few| {
            planned = pass.plans.plan_few(&pass.gpu, &pass.kv, (&pass.description, few));
        });
        planned
    }

    /// Waits for these rows of logits; for none it does not wait.
    fn read_logits(&mut self, rows: Range<usize>, logits: &mut Vec<f32>) -> Result<(), GpuError> {
        logits.clear();
        if rows.is_empty() {
            return Ok(());
        }
        let vocab = self.shape.vocab;
        let part = self.pass.room.logits.part(rows.start * vocab..rows.end * vocab);
        self.logits.download(&part, 0)?;
        logits.extend_from_slice(&self.logits.numbers()?[..part.len()]);
        Ok(())
    }

    /// What kernels take on trust.
    fn check(&self, batch: &Batch<'_>) {
        let shape = &self.shape;
        batch.check(shape);
        let token = batch.tokens.iter().find(|&&token| token as usize >= shape.vocab);
        assert!(token.is_none(), "token {token:?} of {}", shape.vocab);
        let outside = batch.writes.iter().find(|write| {
            write.page.0 as usize >= shape.pages || write.row as usize >= shape.page_rows
        });
        assert!(outside.is_none(), "{outside:?} of {} pages", shape.pages);
    }
}

/// What a call gave.
fn done<T>(result: Result<T, GpuError>) -> T {
    result.unwrap_or_else(|error| ModelLost(error.to_string()).tell())
}

impl Model for GpuDecoder {
    fn shape(&self) -> &ModelShape {
        &self.shape
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut Vec<f32>) {
        done(self.try_forward(batch, logits));
    }

    fn choices(&mut self) -> Option<&mut dyn Choices> {
        Some(self)
    }

    fn weigh(&mut self, batch: &Batch<'_>, by: Weight, mass: &mut [u64], logits: &mut Vec<f32>) {
        done(self.try_weigh(batch, by, mass, logits));
    }

    fn deviate(&mut self, batch: &Batch<'_>, deviations: &mut [f64]) {
        done(self.try_deviate(batch, deviations));
    }

    fn copy_rows(&mut self, from: PageId, to: PageId, rows: usize) {
        done(self.pass.kv.copy_rows(from, to, rows));
    }

    fn read_rows(&self, pages: &[PageId], rows: usize, kv: &mut Vec<u8>) {
        kv.reserve_exact(self.pass.kv.layout().bytes_of(rows));
        done(self.pass.kv.visit_rows(pages, rows, |bytes| kv.extend_from_slice(bytes)));
    }

    fn fill_rows(&mut self, pages: &[PageId], rows: usize, kv: &[u8]) {
        done(self.pass.kv.fill_rows(pages, rows, kv));
    }

    fn digest(&self, pages: &[PageId], rows: usize) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        done(self.pass.kv.visit_rows(pages, rows, |bytes| {
            hasher.update(bytes);
        }));
        *hasher.finalize().as_bytes()
    }
}

impl Choices for GpuDecoder {
    fn forward_to_choices(
        &mut self,
        batch: &Batch<'_>,
        temperatures: &[f32],
        choices: &mut Vec<Choice>,
    ) {
        done(self.try_choices(batch, temperatures, choices));
    }

    fn logits_of(&mut self, place: usize, logits: &mut Vec<f32>) {
        done(self.read_logits(place..place + 1, logits));
    }
}

impl fmt::Debug for GpuDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GpuDecoder")
            .field("gpu", &self.pass.gpu)
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

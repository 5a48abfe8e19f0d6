//! Memory of a step on a device, for as many rows as a batch may hold.
//!
//! It does not move from step to step: what was recorded goes on using it.

use crate::description::Description;
use crate::{Batch, ModelShape};
use half::bf16;
use kernels::cuda::{Buffer, Gpu, GpuError, GpuInput, Output, Pinned};
use kernels::{PageId, RowAddr};

/// Activations. Letters as in `decoder.rs`.
pub(super) struct Room {
    /// The residual stream, `[T, C]`.
    pub(super) x: Buffer<f32>,
    /// Rows of it that are gone on with alone.
    spare: Buffer<f32>,
    /// `[T, C]`: what is normed before it is added to `x`.
    pub(super) branch: Buffer<f32>,
    /// `[T, Q + 2K]`, or `[T, 2F]`: what several products of one input give.
    pub(super) wide: Buffer<f32>,
    /// What products take, rounded, and what that left: `[T, C]`, `[T, Q]` or `[T, F]`.
    high: Buffer<bf16>,
    low: Buffer<bf16>,
    /// `[rows with logits, vocab]`
    pub(super) logits: Buffer<f32>,
}

impl Room {
    pub(super) fn new(gpu: &Gpu, d: &Description, shape: &ModelShape) -> Result<Self, GpuError> {
        let (q, k) = (d.heads * d.head_dim, d.kv_heads * d.head_dim);
        let floats = |cols: usize| Buffer::zeroed(gpu, shape.batch_rows_max * cols);
        let inputs = shape.batch_rows_max * d.dim.max(q).max(d.ffn);
        Ok(Self {
            x: floats(d.dim)?,
            spare: floats(d.dim)?,
            branch: floats(d.dim)?,
            wide: floats((q + 2 * k).max(2 * d.ffn))?,
            high: Buffer::zeroed(gpu, inputs)?,
            low: Buffer::zeroed(gpu, inputs)?,
            logits: Buffer::zeroed(gpu, shape.logits_rows_max * d.vocab)?,
        })
    }

    /// The residual stream, and where what products take is written: with what rounding leaves of
    /// it, where that is multiplied as well.
    pub(super) fn stream_and_input(
        &mut self,
        fine: bool,
    ) -> (&mut Buffer<f32>, &Buffer<f32>, Output<'_>) {
        let output = Output::Rounded(&mut self.high, fine.then_some(&mut self.low));
        (&mut self.x, &self.branch, output)
    }

    /// What products of `rows` rows take.
    pub(super) fn input(&self, rows: usize, fine: bool) -> GpuInput<'_> {
        GpuInput { high: &self.high, low: fine.then_some(&self.low), rows }
    }

    /// Goes on with these rows of the residual stream alone, which ascend.
    pub(super) fn narrow(
        &mut self,
        gpu: &Gpu,
        rows: (&Buffer<u32>, usize),
        cols: usize,
    ) -> Result<(), GpuError> {
        kernels::cuda::gather_rows(gpu, &self.x, rows, cols, &mut self.spare)?;
        std::mem::swap(&mut self.x, &mut self.spare);
        Ok(())
    }
}

/// What kernels look up of a batch: uploaded once for a step.
pub(super) struct Tables {
    rows_max: usize,
    /// Tokens, positions, rows with logits.
    staged: Pinned<u32>,
    numbers: Buffer<u32>,
    staged_writes: Pinned<[u32; 2]>,
    /// Page and row that each row's K and V are written to.
    pub(super) writes: Buffer<[u32; 2]>,
}

impl Tables {
    pub(super) fn new(gpu: &Gpu, rows_max: usize) -> Result<Self, GpuError> {
        Ok(Self {
            rows_max,
            staged: Pinned::zeroed(gpu, 3 * rows_max)?,
            numbers: Buffer::zeroed(gpu, 3 * rows_max)?,
            staged_writes: Pinned::zeroed(gpu, rows_max)?,
            writes: Buffer::zeroed(gpu, rows_max)?,
        })
    }

    /// Brings a batch to the device, filled up to `rows` rows with such as write to a page that
    /// nobody reads.
    pub(super) fn upload(
        &mut self,
        batch: &Batch<'_>,
        rows: usize,
        nowhere: PageId,
    ) -> Result<(), GpuError> {
        let count = batch.tokens.len();
        assert!(count <= rows && rows <= self.rows_max, "{count} rows filled up to {rows}");
        let (tokens, rest) = self.staged.numbers()?.split_at_mut(self.rows_max);
        let (positions, logits) = rest.split_at_mut(self.rows_max);
        tokens[..count].copy_from_slice(batch.tokens);
        positions[..count].copy_from_slice(batch.positions);
        tokens[count..rows].fill(0);
        positions[count..rows].fill(0);
        for (to, &row) in logits.iter_mut().zip(batch.logits_rows) {
            *to = row as u32;
        }
        let writes = self.staged_writes.numbers()?;
        for (to, &RowAddr { page, row }) in writes.iter_mut().zip(batch.writes) {
            *to = [page.0, row];
        }
        writes[count..rows].fill([nowhere.0, 0]);
        self.staged.upload(0..3 * self.rows_max, &mut self.numbers)?;
        self.staged_writes.upload(0..rows, &mut self.writes.part(0..rows))
    }

    pub(super) fn tokens(&self) -> Buffer<u32> {
        self.numbers.part(0..self.rows_max)
    }

    pub(super) fn positions(&self) -> Buffer<u32> {
        self.numbers.part(self.rows_max..2 * self.rows_max)
    }

    /// Rows whose logits are wanted.
    pub(super) fn logits_rows(&self) -> Buffer<u32> {
        self.numbers.part(2 * self.rows_max..3 * self.rows_max)
    }
}

//! Logits on a device, up to where the host chooses: caps, penalties, and what a choice is made of.
//!
//! The host needs the likeliest tokens and two sums, not a row of logits: that is what is copied.

#[cfg(test)]
mod tests;

use super::{Penalties, SampleError};
use crate::cuda::{Argument, Buffer, Gpu, GpuError, Kernel, Shape};

/// `x = cap · tanh(x / cap)`, the first `count` elements.
///
/// # Errors
/// When the device is lost.
///
/// # Panics
/// When the array is too short.
pub fn softcap(gpu: &Gpu, x: &mut Buffer<f32>, count: usize, cap: f32) -> Result<(), GpuError> {
    assert!(x.len() >= count, "{} numbers of {count}", x.len());
    let arguments = [x.into(), Argument::count(count), cap.into()];
    let shape = Shape::covering(count.div_ceil(4), 256);
    // SAFETY: reads and writes the first `count` numbers.
    unsafe { gpu.launch(const { Kernel::named("softcap_f32") }, &shape, &arguments) }
}

/// The tokens that rows have seen, one row after another.
#[derive(Clone, Copy, Debug)]
pub struct SeenTokens<'a> {
    /// How much they lose: repetition, presence and frequency of each row, as [`penalties_of`] has
    /// them.
    pub penalties: &'a Buffer<[f32; 3]>,
    /// `[rows + 1]`: where the tokens of each row begin.
    pub first: &'a Buffer<u32>,
    /// Those in the row's tail or answer, each once.
    pub tokens: &'a Buffer<u32>,
    /// How often each is in the answer.
    pub times: &'a Buffer<u32>,
}

/// Penalties as a device has them.
pub fn penalties_of(penalties: &Penalties) -> [f32; 3] {
    [penalties.repetition, penalties.presence, penalties.frequency]
}

/// Applies penalties to the logits of `rows` rows of `vocab`; see [`crate::penalize`]. That tokens
/// are in the vocabulary, and `first` in `tokens`, is the caller's to see to.
///
/// # Errors
/// When the device is lost.
///
/// # Panics
/// When an array is too short.
pub fn penalize(
    gpu: &Gpu,
    logits: &mut Buffer<f32>,
    (rows, vocab): (usize, usize),
    seen: &SeenTokens<'_>,
) -> Result<(), GpuError> {
    let SeenTokens { penalties, first, tokens, times } = *seen;
    assert!(logits.len() >= rows * vocab && penalties.len() >= rows, "{rows} rows of {vocab}");
    assert!(first.len() > rows && tokens.len() == times.len(), "tokens of {rows} rows");
    let arguments = [
        logits.into(),
        Argument::count(vocab),
        penalties.into(),
        first.into(),
        tokens.into(),
        times.into(),
    ];
    // SAFETY: a block changes the logits of its row at tokens that the caller says are in it.
    unsafe {
        gpu.launch(const { Kernel::named("penalize_f32") }, &Shape::of(rows, 256), &arguments)
    }
}

/// What choices among tokens are made of, for rows of logits: memory that is used again and again.
#[derive(Debug)]
pub struct GpuChoices {
    rows: usize,
    vocab: usize,
    count: usize,
    /// `[rows]`.
    temperatures: Buffer<f32>,
    best: Buffer<u64>,
    sums: Buffer<f64>,
    keys: Buffer<u64>,
    likeliest: Buffer<[u32; 2]>,
    totals: Buffer<[f64; 3]>,
    /// `[rows, count]`, and their logits.
    tokens: Buffer<u32>,
    values: Buffer<f32>,
}

/// What a choice among the tokens of one row is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The token with the largest logit, the lowest among equals; see [`crate::greedy`].
    pub likeliest: Result<u32, SampleError>,
    /// The largest logit.
    pub max: f32,
    /// See [`crate::log_sum_exp`].
    pub log_sum_exp: f32,
    /// `Σ exp((logit - max) / temperature)`; 0 at temperature 0.
    pub tempered: f64,
    /// The tokens with the largest logits, as [`crate::top`] gives them.
    pub top: Vec<(u32, f32)>,
}

impl GpuChoices {
    /// Room for `rows` rows of `vocab` logits, of which the `count` largest are wanted.
    ///
    /// # Errors
    /// When the device has not so much memory left.
    ///
    /// # Panics
    /// When more are wanted than [`COUNT_MAX`], or of so many logits.
    pub fn new(gpu: &Gpu, rows: usize, vocab: usize, count: usize) -> Result<Self, GpuError> {
        let parts = vocab.div_ceil(PART);
        assert!(count <= COUNT_MAX && parts * count <= KEYS_MAX, "the {count} largest of {vocab}");
        Ok(Self {
            rows,
            vocab,
            count,
            temperatures: Buffer::zeroed(gpu, rows)?,
            best: Buffer::zeroed(gpu, rows * parts)?,
            sums: Buffer::zeroed(gpu, rows * parts * 2)?,
            keys: Buffer::zeroed(gpu, rows * parts * count)?,
            likeliest: Buffer::zeroed(gpu, rows)?,
            totals: Buffer::zeroed(gpu, rows)?,
            tokens: Buffer::zeroed(gpu, rows * count)?,
            values: Buffer::zeroed(gpu, rows * count)?,
        })
    }

    /// What each row's logits are divided by: to be written before [`Self::find`].
    pub fn temperatures(&mut self) -> &mut Buffer<f32> {
        &mut self.temperatures
    }

    /// Finds what the choices of the first `rows` rows of `logits` are made of.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// When there is no room for so many rows, or no logits.
    pub fn find(&mut self, gpu: &Gpu, logits: &Buffer<f32>, rows: usize) -> Result<(), GpuError> {
        let Self { vocab, count, .. } = *self;
        let parts = vocab.div_ceil(PART);
        assert!(rows <= self.rows && logits.len() >= rows * vocab, "{rows} rows of {vocab}");
        let counts = [parts, vocab, count].map(Argument::count);
        let [parts_argument, vocab, count] = counts;
        let temperatures = Argument::from(&self.temperatures);
        let between = [(&self.best).into(), (&self.sums).into(), (&self.keys).into()];
        let [best, sums, keys] = between;
        let arguments = [logits.into(), vocab, temperatures, count, best, sums, keys];
        let shape = Shape { blocks: [parts, rows, 1], ..Shape::of(0, 256) };
        // SAFETY: reads rows of `vocab` logits, and writes what there is room for by `new`.
        unsafe { gpu.launch(const { Kernel::named("choice_parts") }, &shape, &arguments) }?;
        let arguments = [
            best,
            sums,
            keys,
            temperatures,
            parts_argument,
            count,
            (&self.likeliest).into(),
            (&self.totals).into(),
            (&self.tokens).into(),
            (&self.values).into(),
        ];
        let kernel = const { Kernel::named("choice_rows") };
        // SAFETY: reads what the launch before wrote, and writes what there is room for by `new`.
        unsafe { gpu.launch(kernel, &Shape::of(rows, 1024), &arguments) }
    }

    /// The likeliest token of each row, and 0 where there is one: for a next step that does not
    /// wait for the host.
    pub fn likeliest(&self) -> &Buffer<[u32; 2]> {
        &self.likeliest
    }

    /// What [`Self::find`] found of the first `rows` rows, after waiting for it.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// When there are fewer rows.
    pub fn read(&self, rows: usize) -> Result<Vec<Choice>, GpuError> {
        let likeliest = self.likeliest.part(0..rows).to_vec()?;
        let totals = self.totals.part(0..rows).to_vec()?;
        let tokens = self.tokens.part(0..rows * self.count).to_vec()?;
        let values = self.values.part(0..rows * self.count).to_vec()?;
        let choice = |row: usize| {
            let top = row * self.count..(row + 1) * self.count;
            let pairs = tokens[top.clone()].iter().copied().zip(values[top].iter().copied());
            let [max, log_sum_exp, tempered] = totals[row];
            Choice {
                likeliest: match likeliest[row] {
                    [token, 0] => Ok(token),
                    [token, 1] => Err(SampleError::NotFinite(token)),
                    _ => Err(SampleError::Empty),
                },
                max: max as f32,
                log_sum_exp: log_sum_exp as f32,
                tempered,
                top: pairs.filter(|&(token, _)| token != u32::MAX).collect(),
            }
        };
        Ok((0..rows).map(choice).collect())
    }
}

/// Logits that a block of the first kernel takes.
const PART: usize = 4096;

/// Most tokens that are found for a row.
pub const COUNT_MAX: usize = 256;

/// Keys that the second kernel takes of a row.
const KEYS_MAX: usize = 16 << 10;

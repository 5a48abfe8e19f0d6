//! Logits on a device, up to where the host chooses: caps, penalties, and what a choice is made of.
//!
//! The host needs the likeliest tokens and two sums, not a row of logits: that is what is copied.

#[cfg(test)]
mod tests;

use super::{Choice, Penalties, SampleError};
use crate::cuda::{Argument, Buffer, Gpu, GpuError, Kernel, Pinned, Shape};

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

/// What choices among tokens are made of, for rows of logits: memory that is used again and again, and
/// does not move, so that launches of [`Self::find`] can be recorded.
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
    on_host: OnHost,
}

/// What goes to the device and comes from it, as the host has it.
#[derive(Debug)]
struct OnHost {
    temperatures: Pinned<f32>,
    likeliest: Pinned<[u32; 2]>,
    totals: Pinned<[f64; 3]>,
    tokens: Pinned<u32>,
    values: Pinned<f32>,
}

impl GpuChoices {
    /// The most tokens of a row that can be found, of so many.
    pub fn count_max(vocab: usize) -> usize {
        Choice::TOP_MAX.min(KEYS_MAX / vocab.div_ceil(PART).max(1))
    }

    /// Room for `rows` rows of `vocab` logits, of which the `count` largest can be found.
    ///
    /// # Errors
    /// When the device has not so much memory left, or the host none that stays in place.
    ///
    /// # Panics
    /// When it is to be more than [`Self::count_max`].
    pub fn new(gpu: &Gpu, rows: usize, vocab: usize, count: usize) -> Result<Self, GpuError> {
        let parts = vocab.div_ceil(PART);
        assert!(count <= Self::count_max(vocab), "the {count} largest of {vocab}");
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
            on_host: OnHost {
                temperatures: Pinned::zeroed(gpu, rows)?,
                likeliest: Pinned::zeroed(gpu, rows)?,
                totals: Pinned::zeroed(gpu, rows)?,
                tokens: Pinned::zeroed(gpu, rows * count)?,
                values: Pinned::zeroed(gpu, rows * count)?,
            },
        })
    }

    /// The most tokens of a row that there is room for.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What the logits of the first rows are divided by, for what is found from now on; of others
    /// nothing is asked but the likeliest token.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// When there is no room for so many rows.
    pub fn set_temperatures(&mut self, temperatures: &[f32]) -> Result<(), GpuError> {
        let staged = self.on_host.temperatures.numbers()?;
        let (first, others) = staged.split_at_mut(temperatures.len());
        first.copy_from_slice(temperatures);
        others.fill(0.0);
        self.on_host.temperatures.upload(0..self.rows, &mut self.temperatures)
    }

    /// Finds what the choices of the first `rows` rows of `logits` are made of, with the `count`
    /// largest.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// When there is no room for so many, or no logits.
    pub fn find(
        &mut self,
        gpu: &Gpu,
        logits: &Buffer<f32>,
        (rows, count): (usize, usize),
    ) -> Result<(), GpuError> {
        let vocab = self.vocab;
        let parts = vocab.div_ceil(PART);
        assert!(rows <= self.rows && logits.len() >= rows * vocab, "{rows} rows of {vocab}");
        assert!(count <= self.count, "the {count} largest, with room for {}", self.count);
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

    /// Fills `choices` with what [`Self::find`] found of the first `rows` rows, with the `count` largest
    /// as it was told, after waiting for it once; for no rows it does not wait.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// When there is no room for so many.
    pub fn read(
        &mut self,
        (rows, count): (usize, usize),
        choices: &mut Vec<Choice>,
    ) -> Result<(), GpuError> {
        choices.clear();
        if rows == 0 {
            return Ok(());
        }
        let OnHost { likeliest, totals, tokens, values, .. } = &mut self.on_host;
        likeliest.download(&self.likeliest.part(0..rows), 0)?;
        totals.download(&self.totals.part(0..rows), 0)?;
        if count > 0 {
            tokens.download(&self.tokens.part(0..rows * count), 0)?;
            values.download(&self.values.part(0..rows * count), 0)?;
        }
        let (likeliest, totals) = (likeliest.numbers()?, totals.numbers()?);
        let (tokens, values) = (tokens.numbers()?, values.numbers()?);
        choices.extend((0..rows).map(|row| {
            let top = row * count..(row + 1) * count;
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
        }));
        Ok(())
    }
}

/// Logits that a block of the first kernel takes.
const PART: usize = 4096;

/// Keys that the second kernel takes of a row.
const KEYS_MAX: usize = 16 << 10;

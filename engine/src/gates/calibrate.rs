//! The temperature and the scale of `parallel` for a model, found without labels: those under which
//! the tail of a few samples comes nearest to plain concatenation.
//!
//! Temperature first, then scale at that temperature, each on a grid and once more around its best:
//! temperature matters more and is found alike on other samples, while a scale has to earn its
//! place ([`WORTH`]).

use super::{Desk, Sample, Written, concatenation, measure::divergence};
use kernels::{Run, Tempered};
use models::Model;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// Divides the scores of fragment rows.
    pub temperature: f64,
    /// Multiplies their log-sum-exp, together with the temperature.
    pub scale: f64,
    /// Mean over the tails' rows of the divergence from plain concatenation, in nats.
    pub divergence: f32,
    /// The same at temperature 1 and scale 1.
    pub before: f32,
    /// Rows of the tails.
    pub rows: usize,
}

/// Temperatures and scales that are tried first.
const GRID: [f64; 10] = [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3];
/// How far around the best one more value is tried on either side.
const BESIDE: f64 = 0.05;
/// A scale other than 1 must leave no more of the divergence than this.
const WORTH: f32 = 0.97;

/// Finds both; `tried` hears of every pair and its divergence.
///
/// # Panics
/// When there is no sample, or the pool is too small for all of them, twice over.
pub fn calibrate(
    model: &mut dyn Model,
    samples: &[Sample],
    mut tried: impl FnMut(f64, f64, f32),
) -> Calibration {
    assert!(!samples.is_empty(), "something to calibrate on");
    let mut desk = Desk::new(model);
    let cases: Vec<_> = samples.iter().map(|sample| Case::new(&mut desk, sample)).collect();
    let mut measure = |temperature: f64, scale: f64| {
        let by = (temperature as f32, scale as f32);
        let each = cases.iter().map(|case| case.divergence(&mut desk, by));
        let divergence = each.sum::<f32>() / cases.len() as f32;
        tried(temperature, scale, divergence);
        divergence
    };
    let before = measure(1.0, 1.0);
    let (temperature, plain) = best(|temperature| measure(temperature, 1.0));
    let (scale, scaled) = best(|scale| measure(temperature, scale));
    let (scale, divergence) = if scaled < WORTH * plain { (scale, scaled) } else { (1.0, plain) };
    let rows = samples.iter().map(|sample| sample.tail.len()).sum();
    Calibration { temperature, scale, divergence, before, rows }
}

/// The value with the smallest measure: of the grid, then beside its best.
fn best(mut measure: impl FnMut(f64) -> f32) -> (f64, f32) {
    let mut least = (1.0, f32::INFINITY);
    let mut try_one = |value: f64, least: &mut (f64, f32)| {
        let measured = measure(value);
        if measured < least.1 {
            *least = (value, measured);
        }
    };
    for value in GRID {
        try_one(value, &mut least);
    }
    let middle = least.0;
    for value in [middle - BESIDE, middle + BESIDE] {
        try_one((value * 100.0).round() / 100.0, &mut least);
    }
    least
}

/// A sample with its parts encoded.
struct Case<'s> {
    sample: &'s Sample,
    root: Written,
    fragments: Vec<Written>,
    /// Log-probabilities of the tail after plain concatenation.
    plain: Vec<f32>,
}

impl<'s> Case<'s> {
    fn new(desk: &mut Desk<'_>, sample: &'s Sample) -> Self {
        let (root, _) = desk.write(&sample.root, 0, &[], usize::MAX);
        let fragments = sample.fragments.iter();
        let fragments =
            fragments.map(|tokens| desk.write(tokens, root.rows, &[&root], usize::MAX).0).collect();
        let used = desk.pages_used;
        let (_, mut plain) = desk.write(&concatenation(sample), 0, &[], usize::MAX);
        desk.pages_used = used;
        let vocab = desk.model.shape().vocab;
        plain.drain(..plain.len() - sample.tail.len() * vocab);
        Self { sample, root, fragments, plain }
    }

    /// How far the tail is from plain concatenation under `parallel`.
    fn divergence(&self, desk: &mut Desk<'_>, (temperature, scale): (f32, f32)) -> f32 {
        let longest = self.fragments.iter().map(|written| written.rows).max().unwrap_or(0);
        let mut runs: Vec<Run<'_>> = self.fragments.iter().map(Written::run).collect();
        let tempered = Some(Tempered { runs: runs.len(), temperature, scale });
        runs.push(self.root.run());
        let (used, start) = (desk.pages_used, self.root.rows + longest);
        let tail = desk.write_tempered(&self.sample.tail, start, (&runs, tempered), usize::MAX).1;
        desk.pages_used = used;
        divergence(desk.model.shape().vocab, &self.plain, &tail)
    }
}

//! A case: one op on one shape with adversarial inputs, as data that tests and benches share.
//!
//! Tests run every case on every [`crate::Isa`] they can and compare with the op's reference;
//! benches time the same cases and divide by [`Work`].

mod gpu;

use crate::cuda::{Gpu, GpuError};
use crate::{Cpu, add, attention, embed, gated, matmul, random, rms_norm};
pub use gpu::{GpuTrial, gpu};
pub(crate) use gpu::{Guarded, rounded, rounded_twice};

/// One op on one shape.
pub trait Case: Sync {
    /// The op and the shape: `"matmul Q4_1 512x576 -> 1536"`.
    fn name(&self) -> String;
    /// Inputs from `rng`, packed for `cpu`, and room for the output.
    fn trial(&self, cpu: &Cpu, rng: &mut Rng) -> Box<dyn Trial>;
    /// How far outputs may be from the reference's.
    fn tolerance(&self) -> Tolerance;
    /// What one run costs at least.
    fn work(&self) -> Work;
}

/// A case with its inputs.
pub trait Trial {
    /// Runs the op once.
    fn run(&mut self, cpu: &Cpu);
    /// What the last run wrote.
    fn output(&self) -> &[f32];
    /// What the reference computes.
    fn expected(&self) -> Vec<Expected>;
    /// The ways to run it on a device, with its inputs there; none where devices have no such op.
    fn on_gpu(&self, _gpu: &Gpu) -> Result<Vec<GpuTrial<'_>>, GpuError> {
        Ok(Vec::new())
    }
}

/// One output of a reference.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The output.
    pub value: f32,
    /// The size of what was added up to make it: what rounding errors are relative to.
    pub magnitude: f32,
}

impl Expected {
    /// A value that is not a sum of larger ones.
    pub fn of(value: f32) -> Self {
        Self { value, magnitude: value.abs() }
    }
}

/// How far `output` may be from `value`: at most `relative · magnitude`.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Relative to [`Expected::magnitude`].
    pub relative: f32,
    /// Where the number comes from.
    pub reason: &'static str,
}

/// What one run costs at least.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Bytes that must be read and written.
    pub bytes: usize,
    /// Additions and multiplications.
    pub flops: usize,
}

/// Every case.
pub fn cases() -> Vec<Box<dyn Case>> {
    let mut cases = Vec::new();
    cases.extend(add::cases());
    cases.extend(attention::cases());
    cases.extend(embed::cases());
    cases.extend(gated::cases());
    cases.extend(matmul::cases());
    cases.extend(random::cases());
    cases.extend(rms_norm::cases());
    cases
}

/// A small generator (SplitMix64, Steele et al. 2014): the same seed, the same inputs.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts at `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// Uniform in [-1, 1).
    pub fn signed(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Activations as models have them: mostly below 1, now and then an outlier a hundred times
    /// larger, and runs of zeros.
    pub fn activations(&mut self, len: usize) -> Vec<f32> {
        let mut x: Vec<f32> = (0..len)
            .map(|_| if self.below(97) == 0 { 100.0 * self.signed() } else { self.signed() })
            .collect();
        if len > 64 {
            let first = self.below(len - 40);
            x[first..first + 40].fill(0.0);
        }
        x
    }
}

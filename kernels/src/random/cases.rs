//! The shapes and inputs that drive tests and benches.

use super::{cuda, random, reference};
use crate::Cpu;
use crate::case::{Case, Expected, GpuTrial, Guarded, Rng, Tolerance, Trial, Work};
use crate::cuda::{Gpu, GpuError};
use half::bf16;

/// None, parts of what a thread writes, and more than a block does.
pub(crate) fn cases() -> Vec<Box<dyn Case>> {
    let counts = [0, 1, 7, 8, 4093, 70_001];
    counts.map(|count| Box::new(Numbers { count }) as Box<dyn Case>).into()
}

struct Numbers {
    count: usize,
}

/// As wide as the weights of models are.
const DEVIATION: f32 = 0.02;

impl Case for Numbers {
    fn name(&self) -> String {
        format!("random {}", self.count)
    }

    fn trial(&self, _cpu: &Cpu, rng: &mut Rng) -> Box<dyn Trial> {
        let numbers = vec![bf16::NAN; self.count];
        Box::new(NumbersTrial { seed: rng.bits(), numbers, output: vec![f32::NAN; self.count] })
    }

    fn tolerance(&self) -> Tolerance {
        EXACT
    }

    fn work(&self) -> Work {
        Work { bytes: 2 * self.count, flops: 2 * self.count }
    }
}

struct NumbersTrial {
    seed: u64,
    numbers: Vec<bf16>,
    output: Vec<f32>,
}

impl Trial for NumbersTrial {
    fn run(&mut self, cpu: &Cpu) {
        random(cpu, self.seed, DEVIATION, &mut self.numbers);
        let widened = self.numbers.iter().map(|number| number.to_f32());
        self.output.iter_mut().zip(widened).for_each(|(output, number)| *output = number);
    }

    fn output(&self) -> &[f32] {
        &self.output
    }

    fn expected(&self) -> Vec<Expected> {
        let number = |index| reference::random(self.seed, DEVIATION, index).to_f32();
        (0..self.output.len()).map(|index| Expected::of(number(index))).collect()
    }

    fn on_gpu(&self, gpu: &Gpu) -> Result<Vec<GpuTrial<'_>>, GpuError> {
        let out = Guarded::<bf16>::new(gpu, self.output.len())?;
        let (mut place, seed, gpu) = (out.place(), self.seed, gpu.clone());
        let run = move || cuda::random(&gpu, seed, DEVIATION, &mut place);
        let output = move || out.read();
        Ok(vec![GpuTrial::new(("random_bf16", EXACT), run, output, || self.expected())])
    }
}

const EXACT: Tolerance =
    Tolerance { relative: 0.0, reason: "integers, and each step rounded once" };

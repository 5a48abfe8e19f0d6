//! The shapes and inputs that drive tests and benches.

use super::{add, add_bias, reference};
use crate::Cpu;
use crate::case::{Case, Expected, GpuTrial, Guarded, Rng, Tolerance, Trial, Work};
use crate::cuda::{self, Buffer, Gpu, GpuError};

/// Sums (one row) and biases (several).
pub(crate) fn cases() -> Vec<Box<dyn Case>> {
    let shapes = [(1, 1), (1, 70_001), (3, 7), (200, 576), (0, 5)];
    shapes.map(|(rows, cols)| Box::new(Sum { rows, cols }) as Box<dyn Case>).into()
}

struct Sum {
    rows: usize,
    cols: usize,
}

impl Case for Sum {
    fn name(&self) -> String {
        format!("add {}x{}", self.rows, self.cols)
    }

    fn trial(&self, _cpu: &Cpu, rng: &mut Rng) -> Box<dyn Trial> {
        let x = rng.activations(self.rows * self.cols);
        let y = rng.activations(self.cols);
        Box::new(SumTrial { output: x.clone(), x, y })
    }

    fn tolerance(&self) -> Tolerance {
        Tolerance { relative: 0.0, reason: "one addition, rounded once" }
    }

    fn work(&self) -> Work {
        let elements = self.rows * self.cols;
        Work { bytes: 8 * elements + 4 * self.cols, flops: elements }
    }
}

struct SumTrial {
    x: Vec<f32>,
    y: Vec<f32>,
    output: Vec<f32>,
}

impl Trial for SumTrial {
    fn run(&mut self, cpu: &Cpu) {
        self.output.copy_from_slice(&self.x);
        if self.x.len() == self.y.len() {
            add(cpu, &mut self.output, &self.y);
        } else {
            add_bias(cpu, &mut self.output, &self.y);
        }
    }

    fn output(&self) -> &[f32] {
        &self.output
    }

    fn expected(&self) -> Vec<Expected> {
        let mut values = self.x.clone();
        reference::add(&mut values, &self.y);
        values.into_iter().map(Expected::of).collect()
    }

    fn on_gpu(&self, gpu: &Gpu) -> Result<Vec<GpuTrial<'_>>, GpuError> {
        let (x, y) = (Buffer::of(gpu, &self.x)?, Buffer::of(gpu, &self.y)?);
        let out = Guarded::new(gpu, self.x.len())?;
        let (mut place, gpu, rows) = (out.place(), gpu.clone(), self.x.len() / self.y.len());
        let run = move || {
            place.copy_from(&x)?;
            if x.len() == y.len() {
                cuda::add(&gpu, &mut place, &y, x.len())
            } else {
                cuda::add_bias(&gpu, &mut place, &y, rows)
            }
        };
        let tolerance = Tolerance { relative: 0.0, reason: "one addition, rounded once" };
        let output = move || out.read();
        Ok(vec![GpuTrial::new(("add", tolerance), run, output, || self.expected())])
    }
}

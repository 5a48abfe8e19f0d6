//! The shapes and inputs that drive tests and benches.

use super::{reference, rms_norm};
use crate::Cpu;
use crate::case::{Case, Expected, GpuTrial, Guarded, Rng, Tolerance, Trial, Work, rounded};
use crate::cuda::{self, Buffer, Gpu, GpuError, Output, RowNorm};

/// Hidden sizes and head sizes of models, and ragged ones.
pub(crate) fn cases() -> Vec<Box<dyn Case>> {
    let shapes = [(1, 576), (64, 576), (300, 64), (3, 17), (2, 1), (0, 8)];
    shapes.map(|(rows, cols)| Box::new(Norm { rows, cols }) as Box<dyn Case>).into()
}

struct Norm {
    rows: usize,
    cols: usize,
}

impl Case for Norm {
    fn name(&self) -> String {
        format!("rms_norm {}x{}", self.rows, self.cols)
    }

    fn trial(&self, _cpu: &Cpu, rng: &mut Rng) -> Box<dyn Trial> {
        let x = rng.activations(self.rows * self.cols);
        let weight = (0..self.cols).map(|_| rng.signed()).collect();
        Box::new(NormTrial { output: vec![f32::NAN; x.len()], x, weight })
    }

    fn tolerance(&self) -> Tolerance {
        tolerance(self.cols)
    }

    fn work(&self) -> Work {
        let elements = self.rows * self.cols;
        Work { bytes: 8 * elements + 4 * self.cols, flops: 4 * elements }
    }
}

struct NormTrial {
    x: Vec<f32>,
    weight: Vec<f32>,
    output: Vec<f32>,
}

/// As models have it.
const EPS: f32 = 1e-5;

impl Trial for NormTrial {
    fn run(&mut self, cpu: &Cpu) {
        rms_norm(cpu, &self.x, &self.weight, EPS, &mut self.output);
    }

    fn output(&self) -> &[f32] {
        &self.output
    }

    fn expected(&self) -> Vec<Expected> {
        let mut values = vec![0.0; self.x.len()];
        reference::rms_norm(&self.x, &self.weight, EPS, &mut values);
        values.into_iter().map(Expected::of).collect()
    }

    /// Of x alone in f32, and of a sum that makes x, rounded to bf16.
    fn on_gpu(&self, gpu: &Gpu) -> Result<Vec<GpuTrial<'_>>, GpuError> {
        let (len, cols) = (self.x.len(), self.weight.len());
        let (x, weight) = (Buffer::of(gpu, &self.x)?, Buffer::of(gpu, &self.weight)?);
        let (plain, high) = (Guarded::new(gpu, len)?, Guarded::new(gpu, len)?);
        let (gpu, rows, tolerance) = (gpu.clone(), len / cols, tolerance(cols));
        let mut stream = Buffer::zeroed(&gpu, len)?;
        let (mut own, mut place) = (x.part(0..len), plain.place());
        let (of, by) = (gpu.clone(), weight.part(0..cols));
        let alone = GpuTrial::new(
            ("rms_norm in f32", tolerance),
            move || {
                let norm = RowNorm { add: None, add_weight: None, weight: &by, eps: EPS, rows };
                cuda::rms_norm(&of, &mut own, &norm, &Output::Plain(&mut place))
            },
            move || plain.read(),
            || self.expected(),
        );
        let mut place = high.place();
        let summed = GpuTrial::new(
            ("rms_norm of a sum in bf16", rounded(tolerance)),
            move || {
                stream.clear()?;
                let add = Some(&x);
                let norm = RowNorm { add, add_weight: None, weight: &weight, eps: EPS, rows };
                cuda::rms_norm(&gpu, &mut stream, &norm, &Output::Rounded(&mut place, None))
            },
            move || high.read(),
            || self.expected(),
        );
        Ok(vec![alone, summed])
    }
}

/// On every machine: where it adds up in other parts, they are no fewer.
fn tolerance(cols: usize) -> Tolerance {
    Tolerance {
        relative: f32::EPSILON * (4.0 + (cols as f32 / 16.0).sqrt()),
        reason: "four roundings, and a sum of squares in 16 parts",
    }
}

//! The shapes and inputs that drive tests and benches.

use super::{Gate, gated, reference};
use crate::Cpu;
use crate::case::{Case, Expected, GpuTrial, Guarded, Rng, Tolerance, Trial, Work, rounded_twice};
use crate::cuda::{self, Buffer, GatedRows, Gpu, GpuError, Output};
use std::rc::Rc;

/// Both gates, from nothing to more than one thread's grain.
pub(crate) fn cases() -> Vec<Box<dyn Case>> {
    let lengths = [0, 1, 37, 1536, 30_000];
    let gates = [Gate::Silu, Gate::GeluTanh];
    let cases = gates.into_iter().flat_map(|gate| lengths.map(|len| GateCase { gate, len }));
    cases.map(|case| Box::new(case) as Box<dyn Case>).collect()
}

struct GateCase {
    gate: Gate,
    len: usize,
}

impl Case for GateCase {
    fn name(&self) -> String {
        format!("gated {:?} {}", self.gate, self.len)
    }

    /// Gates from -100 to 100, most of them small.
    fn trial(&self, _cpu: &Cpu, rng: &mut Rng) -> Box<dyn Trial> {
        let g = rng.activations(self.len);
        let u = rng.activations(self.len);
        Box::new(GateTrial { gate: self.gate, output: vec![f32::NAN; g.len()], g, u })
    }

    fn tolerance(&self) -> Tolerance {
        tolerance()
    }

    fn work(&self) -> Work {
        Work { bytes: 12 * self.len, flops: 24 * self.len }
    }
}

struct GateTrial {
    gate: Gate,
    g: Vec<f32>,
    u: Vec<f32>,
    output: Vec<f32>,
}

impl Trial for GateTrial {
    fn run(&mut self, cpu: &Cpu) {
        gated(cpu, self.gate, &self.g, &self.u, &mut self.output);
    }

    fn output(&self) -> &[f32] {
        &self.output
    }

    fn expected(&self) -> Vec<Expected> {
        let mut values = vec![0.0; self.g.len()];
        reference::gated(self.gate, &self.g, &self.u, &mut values);
        let magnitudes = self.g.iter().zip(&self.u).map(|(g, u)| (g * u).abs());
        let pairs = values.into_iter().zip(magnitudes);
        pairs.map(|(value, magnitude)| Expected { value, magnitude }).collect()
    }

    /// In f32, and in bf16 with what that leaves; gates and values side by side, as one product
    /// gives them.
    fn on_gpu(&self, gpu: &Gpu) -> Result<Vec<GpuTrial<'_>>, GpuError> {
        let len = self.g.len();
        let both = Buffer::of(gpu, &[&self.g[..], &self.u].concat())?;
        let (plain, high, low) =
            (Guarded::new(gpu, len)?, Guarded::new(gpu, len)?, Guarded::new(gpu, len)?);
        let (gate, gpu) = (self.gate, gpu.clone());
        let launch = Rc::new(move |out: &Output<'_>| {
            let (g, u) = (both.part(0..len), both.part(len..2 * len));
            let rows = usize::from(len > 0);
            let of = GatedRows { g: &g, u: &u, rows, cols: len, stride: 2 * len };
            cuda::gated(&gpu, gate, &of, out)
        });
        let again = launch.clone();
        let tolerance = tolerance();
        let mut place = plain.place();
        let in_f32 = GpuTrial::new(
            ("gated in f32", tolerance),
            move || launch(&Output::Plain(&mut place)),
            move || plain.read(),
            || self.expected(),
        );
        let mut places = (high.place(), low.place());
        let in_bf16 = GpuTrial::new(
            ("gated in bf16, twice", rounded_twice(tolerance)),
            move || again(&Output::Rounded(&mut places.0, Some(&mut places.1))),
            move || Ok(high.read()?.iter().zip(low.read()?).map(|(a, b)| a + b).collect()),
            || self.expected(),
        );
        Ok(vec![in_f32, in_bf16])
    }
}

/// On every machine.
fn tolerance() -> Tolerance {
    Tolerance {
        relative: 4.0 * f32::EPSILON,
        reason: "relative to g · u: an exponential within 2 ulp, and four roundings",
    }
}

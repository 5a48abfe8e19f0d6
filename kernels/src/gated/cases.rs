//! The shapes and inputs that drive tests and benches.

use super::{Gate, gated, reference};
use crate::Cpu;
use crate::case::{Case, Expected, Rng, Tolerance, Trial, Work};

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
        Tolerance {
            relative: 4.0 * f32::EPSILON,
            reason: "relative to g · u: an exponential within 2 ulp, and four roundings",
        }
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
}

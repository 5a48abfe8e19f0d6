//! The cases of attention once more, for the attention that rows get.

use super::{Case, Filled, LAYER};
use crate::Cpu;
use crate::attention::cuda::trials;
use crate::attention::{AttentionScratch, MASS_ONE, attention_mass, reference};
use crate::case::{self, Expected, GpuTrial, Rng, Tolerance, Trial, Work};
use crate::cuda::{Gpu, GpuError};

/// The attention that rows get, of one case.
pub(super) struct MassCase(pub(super) Case);

impl case::Case for MassCase {
    fn name(&self) -> String {
        format!("mass of {}", case::Case::name(&self.0))
    }

    fn trial(&self, _cpu: &Cpu, rng: &mut Rng) -> Box<dyn Trial> {
        let filled = self.0.fill(rng.bits() >> 8);
        let rows = self.0.runs.iter().map(|run| run.0 as usize).sum();
        let (mass, output) = (vec![0; rows], vec![0.0; rows]);
        Box::new(MassTrial { filled, scratch: AttentionScratch::new(), mass, output })
    }

    fn tolerance(&self) -> Tolerance {
        tolerance(&self.0)
    }

    fn work(&self) -> Work {
        case::Case::work(&self.0)
    }
}

/// A case of masses that runs.
struct MassTrial {
    filled: Filled,
    scratch: AttentionScratch,
    mass: Vec<u64>,
    output: Vec<f32>,
}

impl Trial for MassTrial {
    fn run(&mut self, cpu: &Cpu) {
        let Filled { kv, shape, positions, .. } = &self.filled;
        let runs = self.filled.runs();
        let spans = [self.filled.span(0..positions.len(), &runs)];
        let queries = self.filled.queries(0..positions.len(), &spans);
        self.mass.fill(0);
        attention_mass(cpu, kv, shape, &queries, &mut self.scratch, &mut self.mass);
        let shares = self.mass.iter().map(|&mass| (mass as f64 / MASS_ONE as f64) as f32);
        self.output.iter_mut().zip(shares).for_each(|(to, share)| *to = share);
    }

    fn output(&self) -> &[f32] {
        &self.output
    }

    fn expected(&self) -> Vec<Expected> {
        let Filled { kv, shape, positions, .. } = &self.filled;
        let runs = self.filled.runs();
        let spans = [self.filled.span(0..positions.len(), &runs)];
        let queries = self.filled.queries(0..positions.len(), &spans);
        let mut values = vec![0.0; self.output.len()];
        reference::mass(kv, shape, &queries, &mut values);
        // At most 1 from each of these, times one and the largest score that could be.
        let shares = (positions.len() * shape.heads) as f32;
        let magnitude = shares * self.filled.score_max();
        values.into_iter().map(|value| Expected { value: value as f32, magnitude }).collect()
    }

    fn on_gpu(&self, gpu: &Gpu) -> Result<Vec<GpuTrial<'_>>, GpuError> {
        let tolerance = tolerance(&self.filled.case);
        trials::of_mass(gpu, &self.filled, (LAYER, tolerance), || self.expected())
    }
}

/// On every machine.
fn tolerance(case: &Case) -> Tolerance {
    let Tolerance { relative, .. } = case::Case::tolerance(case);
    let reason = "as attention, where V is 1; and half a unit of counting for each share";
    Tolerance { relative: relative + 0.5 / MASS_ONE as f32, reason }
}

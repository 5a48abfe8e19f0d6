//! The cases of attention on a device: in their spans, by the plain kernel, and each row as a span of
//! its own, which decode and shared reads serve.

use super::{GpuAttention, GpuQueries, Grids, Way, attention, attention_mass, check, tolerance};
use crate::attention::cases::{Filled, spans};
use crate::attention::{AttentionShape, Looks, MASS_ONE};
use crate::case::{Expected, GpuTrial, Guarded, Tolerance, rounded_twice};
use crate::cuda::{Buffer, Gpu, GpuError, GpuKvPool, GpuRopeTable, HeadRows, Output};
use crate::{Run, Span};
use std::rc::Rc;

/// What a case is on a device, planned.
struct Placed {
    gpu: Gpu,
    kv: GpuKvPool,
    shape: AttentionShape,
    layer: usize,
    q: Buffer<f32>,
    rope: GpuRopeTable,
    by: GpuAttention,
}

impl Placed {
    fn new(
        gpu: &Gpu,
        filled: &Filled,
        spans: &[Span<'_>],
        (layer, way): (usize, Way),
    ) -> Result<Self, GpuError> {
        let kv = GpuKvPool::of_host(gpu, &filled.kv)?;
        let mut by = GpuAttention::new(gpu)?;
        let looks = Looks::new(&filled.positions, spans);
        check(&kv, &filled.shape, &looks);
        by.plan_by(gpu, &kv, &filled.shape, &looks, (Grids::Exact, way))?;
        let rope = GpuRopeTable::new(gpu, &filled.rope, by.positions().max(1))?;
        let (gpu, shape) = (gpu.clone(), filled.shape);
        let q = Buffer::of(&gpu, &filled.q)?;
        Ok(Self { gpu, kv, shape, layer, q, rope, by })
    }

    fn queries(&self) -> GpuQueries<'_> {
        let stride = self.shape.heads * self.shape.head_dim;
        let q = HeadRows { numbers: &self.q, stride };
        GpuQueries { layer: self.layer, q, rope: &self.rope }
    }

    fn attend(&self, out: &Output<'_>) -> Result<(), GpuError> {
        attention(&self.gpu, &self.kv, &self.shape, &self.queries(), &self.by, out)
    }

    /// As on a CPU, and what rounding to the pages' format adds.
    fn tolerance(&self, on_cpu: Tolerance) -> Tolerance {
        let relative = on_cpu.relative + tolerance(&self.by);
        let reason = "as on a CPU; queries and weights rounded for tensor cores: each half an ulp, \
                      once of a score that a weight grows with and once of the weight";
        Tolerance { relative, reason }
    }
}

/// The ways to run a case of attention.
pub(in crate::attention) fn of_attention<'a>(
    gpu: &Gpu,
    (filled, orders): (&'a Filled, &[Vec<Run<'_>>]),
    (layer, on_cpu): (usize, Tolerance),
    expected: impl Fn() -> Vec<Expected> + Clone + 'a,
) -> Result<Vec<GpuTrial<'a>>, GpuError> {
    let rows = filled.positions.len();
    let whole = spans(filled, orders);
    let runs = |row: usize| &orders[row / (rows / orders.len())];
    let each: Vec<_> = (0..rows).map(|row| filled.span(row..row + 1, runs(row))).collect();
    let mut trials = Vec::new();
    for (name, spans, way) in [
        ("attention of its spans", &whole[..], Way::Best),
        ("attention, plain", &whole[..], Way::Plain),
        ("attention of a span for each row", &each[..], Way::Best),
    ] {
        let placed = Placed::new(gpu, filled, spans, (layer, way))?;
        let tolerance = placed.tolerance(on_cpu);
        let out = Guarded::new(gpu, filled.q.len())?;
        let mut place = out.place();
        let run = move || placed.attend(&Output::Plain(&mut place));
        trials.push(GpuTrial::new((name, tolerance), run, move || out.read(), expected.clone()));
    }
    let placed = Placed::new(gpu, filled, &each, (layer, Way::Best))?;
    let tolerance = rounded_twice(placed.tolerance(on_cpu));
    let (high, low) = (Guarded::new(gpu, filled.q.len())?, Guarded::new(gpu, filled.q.len())?);
    let mut places = (high.place(), low.place());
    trials.push(GpuTrial::new(
        ("attention in bf16, twice", tolerance),
        move || placed.attend(&Output::Rounded(&mut places.0, Some(&mut places.1))),
        move || Ok(high.read()?.iter().zip(low.read()?).map(|(a, b)| a + b).collect()),
        expected,
    ));
    Ok(trials)
}

/// The way to run a case of the attention that rows get.
pub(in crate::attention) fn of_mass<'a>(
    gpu: &Gpu,
    filled: &'a Filled,
    (layer, on_cpu): (usize, Tolerance),
    expected: impl Fn() -> Vec<Expected> + 'a,
) -> Result<Vec<GpuTrial<'a>>, GpuError> {
    let runs = filled.runs();
    let spans = [filled.span(0..filled.positions.len(), &runs)];
    let placed = Placed::new(gpu, filled, &spans, (layer, Way::Rows))?;
    let rows: usize = runs.iter().map(|run: &Run<'_>| run.rows as usize).sum();
    let mass = Rc::new(Buffer::<u64>::zeroed(gpu, rows)?);
    let place = mass.clone();
    let run = move || {
        let mut mass = place.part(0..rows);
        mass.clear()?;
        let Placed { gpu, kv, shape, by, .. } = &placed;
        attention_mass(gpu, kv, shape, &placed.queries(), by, &mut mass)
    };
    let share = |mass: u64| (mass as f64 / MASS_ONE as f64) as f32;
    Ok(vec![GpuTrial::new(
        ("attention that rows get", on_cpu),
        run,
        move || Ok(mass.to_vec()?.into_iter().map(share).collect()),
        expected,
    )])
}

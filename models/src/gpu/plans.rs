//! What attention of a step looks at: a plan for each kind of window that layers have.

use crate::Batch;
use crate::decoder::attention_shape;
use crate::description::Description;
use kernels::Looks;
use kernels::cuda::{Gpu, GpuAttention, GpuError, GpuKvPool, Grids, Launches};

/// Plans of attention, and of what rows weigh with those that attend to them.
pub(super) struct Plans {
    /// The windows there are.
    windows: Vec<Option<u32>>,
    of_batch: Vec<GpuAttention>,
    of_mass: Vec<GpuAttention>,
    /// For the rows of the last layer that are gone on with.
    of_few: GpuAttention,
}

impl Plans {
    pub(super) fn new(gpu: &Gpu, d: &Description, shares: bool) -> Result<Self, GpuError> {
        let mut windows = Vec::new();
        for kind in &d.layers {
            if !windows.contains(&kind.window) {
                windows.push(kind.window);
            }
        }
        let plan = || -> Result<GpuAttention, GpuError> {
            let mut plan = GpuAttention::new(gpu)?;
            plan.share_reads(shares);
            Ok(plan)
        };
        let plans = || windows.iter().map(|_| plan()).collect::<Result<Vec<_>, GpuError>>();
        let mut of_batch = plans()?;
        // So that no step finds too little memory for what it looks at.
        let states = STATE_FLOATS / (d.heads * d.head_dim);
        for plan in &mut of_batch {
            plan.reserve(gpu, WORDS, states, (d.heads, d.head_dim))?;
        }
        let (of_mass, of_few) = (plans()?, plan()?);
        Ok(Self { windows, of_batch, of_mass, of_few })
    }

    /// Pages that several sequences look at are read once for all of them, or once for each.
    pub(super) fn share_reads(&mut self, shares: bool) {
        self.of_batch.iter_mut().for_each(|plan| plan.share_reads(shares));
    }

    /// Plans for all rows of a batch. Returns whether memory has moved.
    pub(super) fn plan(
        &mut self,
        gpu: &Gpu,
        kv: &GpuKvPool,
        (d, batch): (&Description, &Batch<'_>),
        grids: Grids,
    ) -> Result<bool, GpuError> {
        let mut moved = false;
        for (&window, plan) in self.windows.iter().zip(&mut self.of_batch) {
            let shape = kernels::AttentionShape { window, ..attention_shape(d, d.layers[0]) };
            moved |= plan.plan(gpu, kv, &shape, &looks(batch), grids)?;
        }
        Ok(moved)
    }

    /// Plans for some rows in the last layer.
    pub(super) fn plan_few(
        &mut self,
        gpu: &Gpu,
        kv: &GpuKvPool,
        (d, few): (&Description, &Batch<'_>),
    ) -> Result<(), GpuError> {
        let last = d.layers[d.layers.len() - 1];
        self.of_few.plan(gpu, kv, &attention_shape(d, last), &looks(few), Grids::Exact).map(drop)
    }

    /// Plans for what the rows of the one span's runs weigh.
    pub(super) fn plan_mass(
        &mut self,
        gpu: &Gpu,
        kv: &GpuKvPool,
        (d, batch): (&Description, &Batch<'_>),
    ) -> Result<(), GpuError> {
        for (&window, plan) in self.windows.iter().zip(&mut self.of_mass) {
            let shape = kernels::AttentionShape { window, ..attention_shape(d, d.layers[0]) };
            plan.plan_mass(gpu, kv, &shape, &looks(batch))?;
        }
        Ok(())
    }

    /// The plan for all rows in layers of this window.
    pub(super) fn of_batch(&self, window: Option<u32>) -> &GpuAttention {
        &self.of_batch[self.place(window)]
    }

    pub(super) fn of_mass(&self, window: Option<u32>) -> &GpuAttention {
        &self.of_mass[self.place(window)]
    }

    pub(super) fn of_few(&self) -> &GpuAttention {
        &self.of_few
    }

    /// Positions that angles must reach for the plans of a batch.
    pub(super) fn positions(&self) -> usize {
        self.of_batch.iter().map(GpuAttention::positions).max().unwrap_or(0)
    }

    /// What the plans of a batch launch.
    pub(super) fn launches(&self) -> impl Iterator<Item = Launches> {
        self.of_batch.iter().map(GpuAttention::launches)
    }

    fn place(&self, window: Option<u32>) -> usize {
        let place = self.windows.iter().position(|&known| known == window);
        place.expect("a window of a layer")
    }
}

fn looks<'a>(batch: &Batch<'a>) -> Looks<'a> {
    Looks::new(batch.positions, batch.spans)
}

/// Words of a plan that there is room for from the beginning: the pages of 64 sequences of 100,000
/// rows.
const WORDS: usize = 1 << 18;

/// Numbers of partial states that there is room for from the beginning: as many as plans make where they
/// have the choice.
const STATE_FLOATS: usize = 1 << 24;

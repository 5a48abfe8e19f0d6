//! What rows weigh, and how far they are off, on a device: results that a probe reads at its end.

use crate::Weight;
use crate::decoder::NORM_ONE;
use kernels::Run;
use kernels::cuda::{Buffer, Gpu, GpuError};

/// Results of probes; they grow to the largest.
pub(super) struct Weighing {
    /// Rows of the runs at hand.
    rows: usize,
    /// `[layers, rows]`, or `[rows]` where layers are added up.
    mass: Buffer<u64>,
    /// `[layers, rows]`: squared norms of V.
    norms: Buffer<f64>,
    /// Page and row of each row of the runs.
    at: Buffer<[u32; 2]>,
    /// Of each row of a batch.
    pub(super) deviations: Buffer<f64>,
}

impl Weighing {
    /// For batches of up to `rows_max` rows.
    pub(super) fn new(gpu: &Gpu, rows_max: usize) -> Result<Self, GpuError> {
        Ok(Self {
            rows: 0,
            mass: Buffer::zeroed(gpu, 0)?,
            norms: Buffer::zeroed(gpu, 0)?,
            at: Buffer::zeroed(gpu, 0)?,
            deviations: Buffer::zeroed(gpu, rows_max)?,
        })
    }

    /// Makes room for what the rows of `runs` weigh, in pages of `page_rows` rows.
    pub(super) fn begin(
        &mut self,
        gpu: &Gpu,
        (runs, page_rows): (&[Run<'_>], usize),
        (by, layers): (Weight, usize),
    ) -> Result<(), GpuError> {
        let address =
            |run: &Run<'_>, row: usize| [run.pages[row / page_rows].0, (row % page_rows) as u32];
        let rows = runs.iter().flat_map(|run| (0..run.rows as usize).map(move |row| (run, row)));
        let at: Vec<_> = rows.map(|(run, row)| address(run, row)).collect();
        self.rows = at.len();
        let places = if by == Weight::Influence { layers * at.len() } else { at.len() };
        if self.mass.len() < places {
            self.mass = Buffer::zeroed(gpu, places.next_power_of_two())?;
        }
        self.mass.part(0..places).clear()?;
        if by == Weight::Attention {
            return Ok(());
        }
        if self.norms.len() < places {
            self.norms = Buffer::zeroed(gpu, places.next_power_of_two())?;
        }
        if self.at.len() < at.len() {
            self.at = Buffer::zeroed(gpu, at.len().next_power_of_two())?;
        }
        self.at.part(0..at.len()).write(&at)
    }

    /// Where a layer's results go: masses, and norms.
    pub(super) fn of_layer(&self, layer: usize, by: Weight) -> (Buffer<u64>, Buffer<f64>) {
        match by {
            Weight::Attention => (self.mass.part(0..self.rows), self.norms.part(0..0)),
            Weight::Influence => {
                let place = layer * self.rows..(layer + 1) * self.rows;
                (self.mass.part(place.clone()), self.norms.part(place))
            }
        }
    }

    /// Where the rows of the runs lie.
    pub(super) fn at(&self) -> (&Buffer<[u32; 2]>, usize) {
        (&self.at, self.rows)
    }

    /// Adds what was found to `mass`, of each row of the runs.
    pub(super) fn end(
        &self,
        (by, layers): (Weight, usize),
        mass: &mut [u64],
    ) -> Result<(), GpuError> {
        assert_eq!(mass.len(), self.rows, "a place for every row of the runs");
        if by == Weight::Attention {
            let shares = self.mass.part(0..self.rows).to_vec()?;
            mass.iter_mut().zip(shares).for_each(|(to, share)| *to = to.saturating_add(share));
            return Ok(());
        }
        let shares = self.mass.part(0..layers * self.rows).to_vec()?;
        let norms = self.norms.part(0..layers * self.rows).to_vec()?;
        let rows = shares.chunks(self.rows.max(1)).zip(norms.chunks(self.rows.max(1)));
        for (shares, norms) in rows {
            for ((to, share), norm) in mass.iter_mut().zip(shares).zip(norms) {
                // Sums that saturate depend on no order either.
                let norm = (norm * NORM_ONE).round() as u64;
                *to = to.saturating_add(share.saturating_mul(norm));
            }
        }
        Ok(())
    }
}

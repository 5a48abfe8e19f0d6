//! The angles of a model on a device: as many positions as were needed so far.

use crate::description::{Description, LayerKind};
use crate::rope::Frequencies;
use kernels::RopeTable;
use kernels::cuda::{Gpu, GpuError, GpuRopeTable};

/// The angles of all layers.
pub(super) struct Angles {
    global: Table,
    /// Of local layers, where they differ.
    local: Option<Table>,
}

struct Table {
    host: RopeTable,
    device: GpuRopeTable,
}

impl Angles {
    /// Angles of the first positions of a composition of `context_max`.
    pub(super) fn new(gpu: &Gpu, d: &Description, context_max: usize) -> Result<Self, GpuError> {
        let positions = context_max.clamp(1, POSITIONS_FIRST);
        let table = |frequencies: &Frequencies| -> Result<Table, GpuError> {
            let most = context_max.min(crate::decoder::ROPE_POSITIONS_MAX);
            let host = RopeTable::new(d.rope_style, frequencies.to_f32(), most);
            Ok(Table { device: GpuRopeTable::new(gpu, &host, positions)?, host })
        };
        let local = d.rope_local.as_ref().map(table).transpose()?;
        Ok(Self { global: table(&d.rope)?, local })
    }

    /// Those of a layer.
    pub(super) fn of(&self, kind: LayerKind) -> &GpuRopeTable {
        match &self.local {
            Some(local) if kind.local_rope => &local.device,
            _ => &self.global.device,
        }
    }

    /// Makes the tables reach `positions` positions. Returns whether they have moved.
    pub(super) fn reach(&mut self, gpu: &Gpu, positions: usize) -> Result<bool, GpuError> {
        if positions <= self.global.device.positions() {
            return Ok(false);
        }
        let positions = positions.next_power_of_two();
        for table in [Some(&mut self.global), self.local.as_mut()].into_iter().flatten() {
            table.device = GpuRopeTable::new(gpu, &table.host, positions)?;
        }
        Ok(true)
    }
}

/// Positions that there are angles of from the beginning: 8 MiB for heads of 128.
const POSITIONS_FIRST: usize = 16 << 10;

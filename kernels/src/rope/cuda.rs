//! The angles of a model on a device: one table of every position, as kernels look them up.

use super::{RopeStyle, RopeTable};
use crate::cuda::{Argument, Buffer, Gpu, GpuError};

/// cos and sin of every pair at every position.
#[derive(Debug)]
pub struct GpuRopeTable {
    style: RopeStyle,
    dims: usize,
    positions: usize,
    /// `[positions, dims / 2]`.
    turns: Buffer<[f32; 2]>,
}

impl GpuRopeTable {
    /// The angles of `table` at positions below `positions`, to the bit.
    ///
    /// # Errors
    /// When the device has not so much memory left.
    pub fn new(gpu: &Gpu, table: &RopeTable, positions: usize) -> Result<Self, GpuError> {
        let pairs = table.inv_freq.len();
        let mut turns = Vec::with_capacity(positions * pairs);
        for position in 0..positions {
            let angles = table.angles(position as i64);
            let each = angles.cos.iter().zip(&angles.sin).take(pairs);
            turns.extend(each.map(|(&cos, &sin)| [cos, sin]));
        }
        let turns = Buffer::of(gpu, &turns)?;
        Ok(Self { style: table.style, dims: 2 * pairs, positions, turns })
    }

    /// Which dims of a head turn together.
    pub fn style(&self) -> RopeStyle {
        self.style
    }

    /// Dims of a head.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Positions there are angles of.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The table.
    pub(crate) fn turns(&self) -> &Buffer<[f32; 2]> {
        &self.turns
    }

    /// The style as kernels number it: 0 where pairs are `(2i, 2i + 1)`, 1 where halves apart.
    pub(crate) fn style_argument(&self) -> Argument<'static> {
        Argument::Integer(u32::from(self.style == RopeStyle::HalfSplit))
    }
}

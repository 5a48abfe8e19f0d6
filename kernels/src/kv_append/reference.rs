//! One head of one row as it is to be stored, plain and in f64: the specification.

use crate::RopeStyle;
use crate::rope::reference::rotate;

/// The rotated key; the value needs none.
pub(super) fn key(style: RopeStyle, inv_freq: &[f32], position: u32, k: &[f32]) -> Vec<f64> {
    rotate(style, inv_freq, i64::from(position), k)
}

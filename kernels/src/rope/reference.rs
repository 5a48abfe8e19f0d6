//! Rotation by its formula, in f64: the specification.

use super::RopeStyle;

/// The formula in f64.
pub(crate) fn rotate(style: RopeStyle, inv_freq: &[f32], position: i64, head: &[f32]) -> Vec<f64> {
    let pairs = inv_freq.len();
    let mut out = vec![0.0; head.len()];
    for (i, &freq) in inv_freq.iter().enumerate() {
        let (a, b) = match style {
            RopeStyle::Interleaved => (2 * i, 2 * i + 1),
            RopeStyle::HalfSplit => (i, i + pairs),
        };
        let (sin, cos) = (position as f64 * f64::from(freq)).sin_cos();
        let (x, y) = (f64::from(head[a]), f64::from(head[b]));
        (out[a], out[b]) = (x * cos - y * sin, x * sin + y * cos);
    }
    out
}

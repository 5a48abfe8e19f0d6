//! Sums in place: the residual stream, and biases.

use crate::Cpu;

/// `x += y`, element by element.
///
/// # Panics
/// When the lengths differ.
pub fn add(cpu: &Cpu, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "one addend per element");
    cpu.split_rows(x, 1, 1 << 14, |first, part| {
        part.iter_mut().zip(&y[first..]).for_each(|(x, y)| *x += y);
    });
}

/// `x[t, c] += bias[c]`, rows of `bias.len()`.
///
/// # Panics
/// When `x` is not whole rows.
pub fn add_bias(cpu: &Cpu, x: &mut [f32], bias: &[f32]) {
    cpu.split_rows(x, bias.len(), (1 << 14) / bias.len().max(1), |_, rows| {
        for row in rows.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
        }
    });
}

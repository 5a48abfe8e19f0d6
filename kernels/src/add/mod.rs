//! Sums in place: the residual stream, and biases.

mod cases;
pub(crate) mod cuda;
mod reference;

use crate::Cpu;
pub(crate) use cases::cases;

/// Elements a thread takes at least: fewer are not worth waking it.
const GRAIN: usize = 1 << 15;

/// `x += y`, element by element.
///
/// # Panics
/// When the lengths differ.
pub fn add(cpu: &Cpu, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "one addend per element");
    // Bound by memory: the compiler's loop for any machine is as fast as memory is.
    cpu.split_rows(x, 1, GRAIN, |first, part| {
        part.iter_mut().zip(&y[first..]).for_each(|(x, y)| *x += y);
    });
}

/// `x[t, c] += bias[c]`, rows of `bias.len()`.
///
/// # Panics
/// When `x` is not whole rows.
pub fn add_bias(cpu: &Cpu, x: &mut [f32], bias: &[f32]) {
    cpu.split_rows(x, bias.len(), GRAIN / bias.len().max(1), |_, rows| {
        for row in rows.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
        }
    });
}

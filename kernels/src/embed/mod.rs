//! `out[t, c] = scale · table[tokens[t], c]`: rows of the embedding table.

mod cases;
pub(crate) mod cuda;
mod reference;

use crate::{Cpu, Matrix};
pub(crate) use cases::cases;

/// Tokens a thread takes at least: fewer are not worth waking it.
const GRAIN: usize = 4;

/// `out[t, c] = scale · table[tokens[t], c]`, with `out [tokens, table.cols]`.
///
/// # Panics
/// When a token is not below `table.rows()` or `out` has another length.
pub fn embed(cpu: &Cpu, table: &Matrix, tokens: &[u32], scale: f32, out: &mut [f32]) {
    let cols = table.cols();
    assert_eq!(out.len(), tokens.len() * cols, "one row per token");
    cpu.split_rows(out, cols, GRAIN, |first, rows| {
        for (row, &token) in rows.chunks_exact_mut(cols).zip(&tokens[first..]) {
            table.row(token as usize, row);
            for value in row {
                *value *= scale;
            }
        }
    });
}

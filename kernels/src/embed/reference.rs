//! What [`super::embed`] computes, plainly.

/// `out[t, c] = scale · table[tokens[t], c]` over a dequantized table, rows of `cols`.
pub(super) fn embed(table: &[f32], cols: usize, tokens: &[u32], scale: f32, out: &mut [f32]) {
    for (out, &token) in out.chunks_exact_mut(cols).zip(tokens) {
        for (out, value) in out.iter_mut().zip(&table[token as usize * cols..]) {
            *out = value * scale;
        }
    }
}

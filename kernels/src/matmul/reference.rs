//! What [`super::matmul`] computes, plainly.

/// `out[t, r] = Σ_c x[t, c] · w[r, c]` over dequantized weights `w [rows, cols]`, accumulated in
/// f64.
pub(super) fn matmul(x: &[f32], w: &[f32], cols: usize, out: &mut [f32]) {
    let rows = w.len() / cols;
    for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(rows)) {
        for (w, out) in w.chunks_exact(cols).zip(out) {
            *out = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum::<f64>() as f32;
        }
    }
}

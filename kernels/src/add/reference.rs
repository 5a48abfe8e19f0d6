//! What [`super::add_bias`] computes, plainly; with one row, [`super::add`].

/// `x[t, c] += y[c]`.
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    for row in x.chunks_exact_mut(y.len().max(1)) {
        for (x, &y) in row.iter_mut().zip(y) {
            *x = (f64::from(*x) + f64::from(y)) as f32;
        }
    }
}

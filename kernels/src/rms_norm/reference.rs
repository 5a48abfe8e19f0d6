//! What [`super::rms_norm`] computes, plainly.

/// `out[t, c] = x[t, c] / sqrt(mean_c(x[t, c]²) + eps) · weight[c]`.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let cols = weight.len();
    for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
        let squares: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let root = (squares / cols as f64 + f64::from(eps)).sqrt();
        for ((out, &x), &weight) in out.iter_mut().zip(x).zip(weight) {
            *out = (f64::from(x) / root * f64::from(weight)) as f32;
        }
    }
}

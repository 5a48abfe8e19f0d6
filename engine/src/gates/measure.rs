//! How far two sets of log-probabilities are from one another, and how far they may be.

/// What rounding may change where bits need not be equal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Largest absolute difference between log-probabilities above -12: for f32 weights and KV.
    Largest(f32),
    /// Mean over rows of the Kullback-Leibler divergence, in nats: where activations are
    /// quantized, a rounding can flip, which single log-probabilities show and the whole does not.
    Divergence(f32),
}

/// What a model promises of the same row in batches of other shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// The same bits.
    Bits,
    /// The same but for rounding: on GPUs, which multiply few rows and many in different ways. The
    /// same batch gives the same bits all the same.
    Rounding,
}

impl Promise {
    /// How far `got` is from `want`, both log-probabilities `[rows, vocab]`; by `bound` where bits are
    /// not promised.
    pub(super) fn measure(self, (vocab, bound): (usize, Bound), want: &[f32], got: &[f32]) -> f32 {
        match self {
            Self::Bits => bits(want, got),
            Self::Rounding => bound.measure(vocab, want, got),
        }
    }
}

impl Bound {
    /// How far `got` is from `want`, both log-probabilities `[rows, vocab]`.
    pub(super) fn measure(self, vocab: usize, want: &[f32], got: &[f32]) -> f32 {
        match self {
            Self::Largest(_) => difference(want, got),
            Self::Divergence(_) => divergence(vocab, want, got),
        }
    }
}

/// Largest difference where either side gives the token at least e^-12.
fn difference(want: &[f32], got: &[f32]) -> f32 {
    if want.len() != got.len() {
        return f32::INFINITY;
    }
    let pairs = want.iter().zip(got).filter(|(w, g)| w.max(**g) > -12.0);
    pairs.fold(0.0, |worst, (w, g)| {
        if w.is_finite() && g.is_finite() { worst.max((w - g).abs()) } else { f32::INFINITY }
    })
}

/// Mean over rows of the divergence of `got` from `want`.
pub(super) fn divergence(vocab: usize, want: &[f32], got: &[f32]) -> f32 {
    if want.len() != got.len() {
        return f32::INFINITY;
    }
    let terms = want.iter().zip(got).map(|(&w, &g)| f64::from(w).exp() * f64::from(w - g));
    let mean = terms.sum::<f64>() / (want.len() / vocab) as f64;
    if mean.is_finite() { mean as f32 } else { f32::INFINITY }
}

/// 0 for the same bits; else the difference, or infinity where that rounds to 0.
pub(super) fn bits(want: &[f32], got: &[f32]) -> f32 {
    let same =
        want.len() == got.len() && want.iter().zip(got).all(|(w, g)| w.to_bits() == g.to_bits());
    if same {
        return 0.0;
    }
    let error = difference(want, got);
    if error == 0.0 { f32::INFINITY } else { error }
}

//! Rotation frequencies from configurations: base, scaling, and the forms they are written in.
//!
//! RoPE: <https://arxiv.org/abs/2104.09864>. Scaling `linear` divides every frequency by a factor
//! (<https://arxiv.org/abs/2306.15595>); `llama3` divides the slow ones, keeps the fast ones and
//! blends between (Llama 3.1, `_compute_llama3_parameters` in transformers). Other scalings are
//! refused by name.

use crate::config::Keys;
use crate::{LoadError, Weights};
use std::f64::consts::TAU;

/// Radians per position of each pair of a head's elements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frequencies(Vec<f64>);

impl Frequencies {
    /// `base^(-2i/head_dim)`.
    pub(crate) fn new(base: f64, head_dim: usize) -> Self {
        let pairs = head_dim / 2;
        Self((0..pairs).map(|i| base.powf(-(i as f64) / pairs as f64)).collect())
    }

    /// As the kernels take them.
    pub(crate) fn to_f32(&self) -> Vec<f32> {
        self.0.iter().map(|&f| f as f32).collect()
    }

    /// Every frequency divided by `factor`.
    fn linear(mut self, factor: f64) -> Self {
        self.0.iter_mut().for_each(|f| *f /= factor);
        self
    }

    /// Each frequency divided by a factor of its own.
    fn divided(mut self, factors: &[f32]) -> Self {
        self.0.iter_mut().zip(factors).for_each(|(f, &factor)| *f /= f64::from(factor));
        self
    }

    fn llama3(mut self, scaling: &Llama3) -> Self {
        let Llama3 { factor, low, high, original } = *scaling;
        for f in &mut self.0 {
            let wavelength = TAU / *f;
            if wavelength > original / low {
                *f /= factor;
            } else if wavelength >= original / high {
                let smooth = (original / wavelength - low) / (high - low);
                *f = (1.0 - smooth) * *f / factor + smooth * *f;
            }
        }
        self
    }

    /// From GGUF metadata: `rope.freq_base`, linear scaling, and the per-frequency factors that
    /// converters store as a tensor for Llama 3.
    pub(crate) fn of_gguf(
        keys: &Keys,
        base_default: f64,
        head_dim: usize,
        weights: &Weights,
    ) -> Result<Self, LoadError> {
        let rotated = keys.size("rope.dimension_count")?.unwrap_or(head_dim);
        if rotated != head_dim {
            let what = format!("{rotated}: rotating part of a head of {head_dim} is not supported");
            return Err(keys.bad("rope.dimension_count", what));
        }
        let base = keys.positive("rope.freq_base")?.unwrap_or(base_default);
        let frequencies = Self::new(base, head_dim);
        let factor = match keys.positive("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            None => keys.positive("rope.scale_linear")?,
        };
        let scaled = match (keys.text("rope.scaling.type")?.unwrap_or("linear"), factor) {
            ("none", _) | ("linear", None) => frequencies,
            ("linear", Some(factor)) => frequencies.linear(factor),
            (other, _) => {
                let what = format!("{other:?} is not supported: linear and none are");
                return Err(keys.bad("rope.scaling.type", what));
            }
        };
        let Some(tensor) = weights.tensor(ROPE_FACTORS) else { return Ok(scaled) };
        let factors = crate::weights::floats(&tensor, &[head_dim / 2])?;
        if factors.iter().any(|&factor| !(factor.is_finite() && factor > 0.0)) {
            return Err(LoadError::bad_tensor(ROPE_FACTORS, "holds a factor that is not positive"));
        }
        Ok(scaled.divided(&factors))
    }

    /// From `config.json`: `rope_parameters`, or the older `rope_theta` with `rope_scaling`.
    pub(crate) fn of_json(
        keys: &Keys,
        base_default: f64,
        head_dim: usize,
    ) -> Result<Self, LoadError> {
        let theta = keys.positive("rope_theta")?;
        let parameters = keys.object("rope_parameters")?;
        let scaling = keys.object("rope_scaling")?;
        if let (Some(_), Some(_)) = (&parameters, &scaling) {
            return Err(keys.bad("rope_scaling", "contradicts rope_parameters"));
        }
        let base = theta.unwrap_or(base_default);
        match parameters.or(scaling) {
            Some(parameters) => Self::of_parameters(&parameters, base, head_dim),
            None => Ok(Self::new(base, head_dim)),
        }
    }

    /// From one object of parameters.
    pub(crate) fn of_parameters(
        keys: &Keys,
        base_default: f64,
        head_dim: usize,
    ) -> Result<Self, LoadError> {
        let base = keys.positive("rope_theta")?.unwrap_or(base_default);
        let (new, old) = (keys.text("rope_type")?, keys.text("type")?);
        let rotated = keys.positive("partial_rotary_factor")?.unwrap_or(1.0);
        if rotated != 1.0 {
            return Err(keys.bad("partial_rotary_factor", format!("{rotated} is not supported")));
        }
        let frequencies = Self::new(base, head_dim);
        let scaled = match new.or(old).unwrap_or("default") {
            "default" => frequencies,
            "linear" => frequencies.linear(keys.needed_positive("factor")?),
            "llama3" => frequencies.llama3(&Llama3::of(keys)?),
            other => {
                let what = format!("{other:?} is not supported: default, linear and llama3 are");
                return Err(keys.bad(if new.is_some() { "rope_type" } else { "type" }, what));
            }
        };
        keys.finish(&[])?;
        Ok(scaled)
    }
}

/// Parameters of `llama3` scaling.
struct Llama3 {
    factor: f64,
    low: f64,
    high: f64,
    original: f64,
}

impl Llama3 {
    fn of(keys: &Keys) -> Result<Self, LoadError> {
        let low = keys.needed_positive("low_freq_factor")?;
        let high = keys.needed_positive("high_freq_factor")?;
        if high <= low {
            return Err(keys.bad("high_freq_factor", format!("{high} is not above {low}")));
        }
        let factor = keys.needed_positive("factor")?;
        let original = keys.needed_size("original_max_position_embeddings")? as f64;
        Ok(Self { factor, low, high, original })
    }
}

/// Factors of `llama3` scaling, one per frequency, as converters write them.
pub(crate) const ROPE_FACTORS: &str = "rope_freqs.weight";

//! Rotary position embedding: turns pairs of a head's dims by an angle that grows with position.
//!
//! For pair `i` at position `p`, with `a = p * inv_freq[i]`:
//! `(x, y) <- (x cos a - y sin a, x sin a + y cos a)` (Su et al. 2021, arXiv:2104.09864). Which
//! dims make a pair is the [`RopeStyle`]. Angles and their sines are f64; cos and sin are rounded
//! to f32 once.

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]

pub(crate) mod cuda;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod tests;

/// Which dims of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RopeStyle {
    /// `(2i, 2i + 1)`: Llama weights as GGUF stores them.
    Interleaved,
    /// `(i, i + dim / 2)`: NeoX, and Hugging Face's weights.
    HalfSplit,
}

/// The angles of a model (or of one kind of its layers).
///
/// An angle at position `p = 256 hi + lo` is the sum of two, so two short tables of f64 sines
/// stand for one of all positions: 1 MB instead of 67 MB for 131,072 positions of 128 dims.
#[derive(Clone, Debug)]
pub struct RopeTable {
    style: RopeStyle,
    inv_freq: Vec<f32>,
    /// `[LOW, pairs]`: positions 0 to LOW - 1.
    low: Vec<Turn>,
    /// `[.., pairs]`: multiples of LOW.
    high: Vec<Turn>,
}

impl RopeTable {
    /// Angles of `inv_freq.len()` pairs. Positions below `positions_max` are looked up; others
    /// give the same bits as a longer table would, only slower.
    ///
    /// # Panics
    /// When there are no pairs, or more than half of [`crate::HEAD_DIM_MAX`].
    pub fn new(style: RopeStyle, inv_freq: Vec<f32>, positions_max: usize) -> Self {
        let pairs = inv_freq.len();
        assert!(0 < pairs && pairs <= PAIRS_MAX, "{pairs} pairs of at most {PAIRS_MAX}");
        let table = |positions: usize, step: i64| -> Vec<Turn> {
            let each = (0..positions as i64)
                .flat_map(|i| inv_freq.iter().map(move |&freq| Turn::at(i * step, freq)));
            each.collect()
        };
        let low = table(LOW as usize, 1);
        let high = table(positions_max.div_ceil(LOW as usize), LOW);
        Self { style, inv_freq, low, high }
    }

    /// Dims of a head.
    pub fn dims(&self) -> usize {
        2 * self.inv_freq.len()
    }

    /// Turns consecutive heads, each of [`Self::dims`] elements, by the angles of `position`.
    ///
    /// # Panics
    /// When `heads` is not whole heads.
    pub fn rotate(&self, position: i64, heads: &mut [f32]) {
        self.turn(&self.angles(position), heads);
    }

    /// [`Self::rotate`] by angles that are at hand.
    #[inline(always)]
    pub(crate) fn turn(&self, angles: &Angles, heads: &mut [f32]) {
        let pairs = self.inv_freq.len();
        assert!(heads.len().is_multiple_of(2 * pairs), "whole heads of {} dims", 2 * pairs);
        let (cos, sin) = (&angles.cos[..pairs], &angles.sin[..pairs]);
        for head in heads.chunks_exact_mut(2 * pairs) {
            match self.style {
                RopeStyle::Interleaved => {
                    for (pair, (&c, &s)) in head.chunks_exact_mut(2).zip(cos.iter().zip(sin)) {
                        (pair[0], pair[1]) = (pair[0] * c - pair[1] * s, pair[0] * s + pair[1] * c);
                    }
                }
                RopeStyle::HalfSplit => {
                    let (xs, ys) = head.split_at_mut(pairs);
                    for ((x, y), (&c, &s)) in xs.iter_mut().zip(ys).zip(cos.iter().zip(sin)) {
                        (*x, *y) = (*x * c - *y * s, *x * s + *y * c);
                    }
                }
            }
        }
    }

    /// cos and sin of every pair at `position`.
    #[inline(always)]
    pub(crate) fn angles(&self, position: i64) -> Angles {
        let pairs = self.inv_freq.len();
        let (high, low) = (position.div_euclid(LOW), position.rem_euclid(LOW) as usize);
        let low = &self.low[low * pairs..][..pairs];
        let row =
            usize::try_from(high).ok().and_then(|h| self.high.get(h * pairs..(h + 1) * pairs));
        let mut angles = Angles::default();
        let to = angles.cos[..pairs].iter_mut().zip(&mut angles.sin[..pairs]).zip(low);
        let set = |((cos, sin), near): ((&mut f32, &mut f32), &Turn), far: Turn| {
            let turn = far.then(*near);
            (*cos, *sin) = (turn.cos as f32, turn.sin as f32);
        };
        if let Some(row) = row {
            to.zip(row).for_each(|(to, &far)| set(to, far));
        } else {
            to.zip(&self.inv_freq).for_each(|(to, &freq)| set(to, Turn::at(high * LOW, freq)));
        }
        angles
    }
}

/// cos and sin of every pair at one position.
#[derive(Clone, Debug)]
pub(crate) struct Angles {
    cos: [f32; PAIRS_MAX],
    sin: [f32; PAIRS_MAX],
}

/// Of no pairs.
impl Default for Angles {
    #[inline(always)]
    fn default() -> Self {
        Self { cos: [0.0; PAIRS_MAX], sin: [0.0; PAIRS_MAX] }
    }
}

/// cos and sin of an angle.
#[derive(Clone, Copy, Debug)]
struct Turn {
    cos: f64,
    sin: f64,
}

impl Turn {
    fn at(position: i64, inv_freq: f32) -> Self {
        let (sin, cos) = (position as f64 * f64::from(inv_freq)).sin_cos();
        Self { cos, sin }
    }

    /// The sum of two angles.
    #[inline(always)]
    fn then(self, other: Self) -> Self {
        Self {
            cos: self.cos * other.cos - self.sin * other.sin,
            sin: self.sin * other.cos + self.cos * other.sin,
        }
    }
}

/// Positions of the fine table, and the step of the coarse one.
const LOW: i64 = 256;

const PAIRS_MAX: usize = crate::HEAD_DIM_MAX / 2;

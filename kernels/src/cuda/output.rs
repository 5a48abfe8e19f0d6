//! Where an op's results go: plain, or rounded to what the next product takes.

use super::{Argument, Buffer};
use half::bf16;

/// Where results go.
#[derive(Debug)]
pub enum Output<'a> {
    /// In f32.
    Plain(&'a mut Buffer<f32>),
    /// The nearest bf16 and, where a second array is given, the nearest to what that left: a product
    /// with both is one with 16 bits of mantissa.
    Rounded(&'a mut Buffer<bf16>, Option<&'a mut Buffer<bf16>>),
}

impl Output<'_> {
    /// Whether there is a place for `count` results.
    pub(crate) fn holds(&self, count: usize) -> bool {
        match self {
            Self::Plain(out) => out.len() >= count,
            Self::Rounded(high, low) => {
                high.len() >= count && low.as_ref().is_none_or(|low| low.len() >= count)
            }
        }
    }

    /// The first arguments of a kernel that rounds: `high`, `low`. Of one that does not: `out`.
    pub(crate) fn arguments(&self) -> Vec<Argument<'_>> {
        match self {
            Self::Plain(out) => vec![Argument::from(&**out)],
            Self::Rounded(high, low) => {
                vec![Argument::from(&**high), Argument::optional(low.as_deref())]
            }
        }
    }
}

//! What a choice among the tokens of one row is made of, where the row itself stays on a device: as
//! much as it takes to choose the token that [`choose`](super::choose()) chooses, or to see that it
//! takes the row.

use super::choose::{ChoiceScratch, Filters, SampleError, fall, greedy, weight_of};
use super::logprob::{Candidate, log_sum_exp, top};

/// What a choice among the tokens of one row is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The token with the largest logit, the lowest among equals; see [`greedy`].
    pub likeliest: Result<u32, SampleError>,
    /// The largest logit.
    pub max: f32,
    /// See [`log_sum_exp`].
    pub log_sum_exp: f32,
    /// `Σ exp((logit - max) / temperature)`; 0 at temperature 0.
    pub tempered: f64,
    /// The tokens with the largest logits, as [`top`] gives them.
    pub top: Vec<(u32, f32)>,
}

impl Choice {
    /// Most tokens that a choice is made of.
    pub const TOP_MAX: usize = 256;

    /// What a whole row gives at a temperature, with its `count` likeliest tokens: what a device's is
    /// measured by.
    pub fn of(logits: &[f32], temperature: f32, count: usize) -> Self {
        let likeliest = greedy(logits);
        let max = match likeliest {
            Ok(token) => logits[token as usize],
            Err(SampleError::NotFinite(_)) => f32::NAN,
            Err(SampleError::Empty) => f32::NEG_INFINITY,
        };
        let weight = weight_of(max, temperature);
        let is_tempered = temperature > 0.0 && likeliest != Err(SampleError::Empty);
        let tempered =
            if is_tempered { logits.iter().map(|&logit| weight(logit)).sum() } else { 0.0 };
        let (log_sum_exp, top) = (log_sum_exp(logits), top(logits, count));
        Self { likeliest, max, log_sum_exp, tempered, top }
    }

    /// The token that [`choose`](super::choose()) chooses from the whole row; none where that takes the
    /// row: where the filters may keep more tokens than were found, or where the sum leaves open how
    /// many they keep. The filters' temperature is the one it was found at.
    ///
    /// # Errors
    /// When the logits are no distribution.
    pub fn choose(
        &self,
        filters: &Filters,
        u: f64,
        scratch: &mut ChoiceScratch,
    ) -> Result<Option<u32>, SampleError> {
        let likeliest = self.likeliest?;
        if filters.temperature <= 0.0 {
            return Ok(Some(likeliest));
        }
        let weight = weight_of(self.max, filters.temperature);
        let ChoiceScratch { kept, weights } = scratch;
        weights.clear();
        weights.extend(self.top.iter().map(|&(_, logit)| weight(logit)));
        let Some(count) = self.kept(filters, weights) else { return Ok(None) };
        kept.clear();
        kept.extend(self.top[..count].iter().map(|&(token, logit)| Candidate { token, logit }));
        fall(kept, weight, u).map(Some)
    }

    /// How many of the likeliest tokens the filters keep, as each keeps some and none behind them; none
    /// where it may be more than there are, or is not certain.
    fn kept(&self, filters: &Filters, weights: &[f64]) -> Option<usize> {
        let (mut among, mut whole) = (weights, self.tempered);
        let mut fewest = usize::MAX;
        if filters.top_k > 0 {
            among = weights.get(..filters.top_k)?;
            (whole, fewest) = (among.iter().sum(), filters.top_k);
        }
        let mut most = fewest;
        if filters.top_p < 1.0 {
            let needed = whole * f64::from(filters.top_p);
            fewest = fewest.min(reaching(among, needed * (1.0 - SUM_ERROR)));
            most = most.min(reaching(among, needed * (1.0 + SUM_ERROR)));
        }
        if filters.min_p > 0.0 {
            let min = f64::from(filters.min_p).min(1.0);
            let likely = among.iter().position(|&weight| weight < min).unwrap_or(usize::MAX);
            (fewest, most) = (fewest.min(likely), most.min(likely));
        }
        (fewest == most && most <= weights.len()).then_some(most)
    }
}

impl Filters {
    /// A [`Choice`] may say which tokens they keep. It never does where they keep all, or more than are
    /// ever found.
    pub fn may_keep_few(&self) -> bool {
        self.temperature <= 0.0
            || match self.top_k {
                0 => self.top_p < 1.0 || self.min_p > 0.0,
                count => count <= Choice::TOP_MAX,
            }
    }
}

/// How many weights it takes to reach a sum, at least one; more than there are where they do not.
fn reaching(weights: &[f64], needed: f64) -> usize {
    let mut sum = 0.0;
    let reaches = |weight: &f64| {
        sum += weight;
        sum >= needed
    };
    weights.iter().position(reaches).map_or(usize::MAX, |before| before + 1)
}

/// By how much of it a device's sum may be off: its exponentials are in f32, within 2 ulp, and each
/// argument was rounded twice. That weighs as much as the argument is long, at most the logarithm of
/// the vocabulary on average: 2e-6 of 262144 tokens. The host's sums, in whatever order, are far nearer.
const SUM_ERROR: f64 = 1e-5;

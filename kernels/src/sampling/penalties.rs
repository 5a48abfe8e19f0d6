//! Penalties on tokens that were seen: of repetition, presence and frequency.

/// How much tokens that were seen lose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalties {
    /// Positive logits of tokens in the tail or the answer are divided by it, others multiplied
    /// (Keskar et al. 2019, arXiv:1909.05858). 1: off.
    pub repetition: f32,
    /// Taken from the logit of every token in the answer (OpenAI's `presence_penalty`). 0: off.
    pub presence: f32,
    /// Taken once for each time a token is in the answer (OpenAI's `frequency_penalty`). 0: off.
    pub frequency: f32,
}

impl Penalties {
    /// No penalty.
    pub const OFF: Self = Self { repetition: 1.0, presence: 0.0, frequency: 0.0 };
}

impl Default for Penalties {
    fn default() -> Self {
        Self::OFF
    }
}

/// Memory of [`penalize`], reused between calls.
#[derive(Clone, Debug, Default)]
pub struct PenaltyScratch {
    /// Per token: times in the answer, plus one if it was seen at all. Zero between calls.
    seen: Vec<u32>,
}

/// Applies `penalties` to `logits` for the tokens of the tail's turn and of the answer so far.
/// Ids outside the logits are passed over.
pub fn penalize(
    logits: &mut [f32],
    penalties: &Penalties,
    tail: &[u32],
    answer: &[u32],
    scratch: &mut PenaltyScratch,
) {
    if *penalties == Penalties::OFF {
        return;
    }
    let seen = &mut scratch.seen;
    seen.resize(logits.len().max(seen.len()), 0);
    let both = || tail.iter().chain(answer).map(|&t| t as usize).filter(|&t| t < logits.len());
    both().for_each(|t| seen[t] = 1);
    answer
        .iter()
        .filter_map(|&t| logits.get(t as usize).map(|_| t))
        .for_each(|t| seen[t as usize] += 1);
    for t in tail.iter().chain(answer).map(|&t| t as usize) {
        let Some(logit) = logits.get_mut(t) else { continue };
        let Some(times) = std::mem::take(&mut seen[t]).checked_sub(1) else { continue };
        let by = penalties.repetition;
        *logit = if *logit > 0.0 { *logit / by } else { *logit * by };
        if times > 0 {
            *logit -= penalties.presence + penalties.frequency * times as f32;
        }
    }
}

//! From logits to a token: log-probabilities, penalties, filters and the choice.
//!
//! All pure functions of their arguments; chance comes in as a number of [`uniform`].

mod choice;
mod choose;
pub(crate) mod cuda;
mod logprob;
mod penalties;
mod uniform;

pub use choice::Choice;
pub use choose::{ChoiceScratch, Filters, SampleError, choose, greedy};
pub use logprob::{log_sum_exp, top};
pub use penalties::{Penalties, PenaltyScratch, penalize};
pub(crate) use uniform::philox;
pub use uniform::uniform;

#[cfg(test)]
mod choice_tests;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

//! Tests of the engine from outside, over a model whose logits are hashes of what it is shown.

#![expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed, helpers included")]

mod choices;
mod forks;
mod hash_model;
mod identity;
mod oracle;
mod plan;
mod priority;
mod real_models;
mod refusals;
mod sealed;
mod sim;
mod swaps;
mod thread;
mod tiers;
mod world;

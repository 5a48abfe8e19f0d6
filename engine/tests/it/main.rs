//! Tests of the engine from outside, over a model whose logits are hashes of what it is shown.

mod hash_model;
mod identity;
mod oracle;
mod plan;
mod refusals;
mod sim;
mod thread;
mod world;

//! Models: weights, tokenizer, chat template, the decoder's forward pass, and the catalogue.
//!
//! Does not know what a fragment or a join policy is: it forwards batches of rows over runs of KV
//! pages and returns logits.

pub mod catalogue;
mod model;
mod tokenizer;
mod turns;

pub use model::{Batch, Model, ModelShape, TokenId};
pub use tokenizer::{TextStream, Tokenizer};
pub use turns::{Message, Turns, TurnsError};

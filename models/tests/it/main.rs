//! Integration tests of the crate: one binary.

mod checkpoint;
mod tokenizer;
mod turns;

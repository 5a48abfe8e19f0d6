//! Integration tests of the crate: one binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed, helpers included")]
#![expect(clippy::print_stdout, reason = "measured differences are shown with --nocapture")]

mod checkpoint;
mod desk;
mod files;
mod gguf_writer;
mod golden;
mod gpu;
mod hostile_gguf;
mod hostile_safetensors;
mod invariance;
mod loading;
mod parity;
mod tokenizer;
mod turns;

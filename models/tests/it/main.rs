//! Integration tests of the crate: one binary.

mod checkpoint;
mod desk;
mod files;
mod gguf_writer;
mod golden;
mod hostile_gguf;
mod hostile_safetensors;
mod invariance;
mod loading;
mod parity;
mod tokenizer;
mod turns;

//! Models: weights, tokenizer, chat template, the decoder's forward pass, and the catalogue.
//!
//! Does not know what a fragment or a join policy is: it forwards batches of rows over runs of KV
//! pages and returns logits, or what choices among tokens are made of.

// Not `forbid`: `weights.rs` maps files, the one place that expects unsafe code.
#![deny(unsafe_code)]

mod any;
mod arch;
pub mod catalogue;
mod config;
mod decoder;
mod description;
mod device;
pub mod gguf;
mod gpu;
mod load;
mod load_error;
mod model;
mod narrow;
mod parts;
mod rope;
pub mod safetensors;
mod shelf;
mod source;
mod tokenizer;
mod turns;
mod value;
mod weights;

pub use any::AnyDecoder;
pub use decoder::Decoder;
pub use device::{DeviceChoice, UnknownDevice};
pub use gguf::Gguf;
pub use gpu::{GpuDecoder, RandomModel};
pub use kernels::{Isa, KvDtype};
pub use load::{
    KV_VERSION, LoadOptions, Loaded, ModelInfo, Opened, load, load_text, physical_cores,
};
pub use load_error::LoadError;
pub use model::{Batch, Choices, Model, ModelLost, ModelShape, TokenId, Weight};
pub use narrow::emptied;
pub use safetensors::Safetensors;
pub use tokenizer::{
    SpacePrefix, TextStream, TokenKind, Tokenizer, TokenizerError, TokenizerFiles, Vocabulary,
    VocabularyModel, chat_template,
};
pub use turns::{Date, Message, Turns, TurnsError};
pub use value::{Array, Metadata, Value};
pub use weights::{Entry, Mapping, Tensor, Weights};

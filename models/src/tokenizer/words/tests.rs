//! Words of each pre-tokenizer.

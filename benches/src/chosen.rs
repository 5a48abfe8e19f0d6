//! What benches of a model on this CPU are asked alike: which model, how many threads, what KV is
//! kept in.

use models::{KvDtype, LoadOptions};

/// A model, and how it is loaded.
#[derive(clap::Args)]
pub(crate) struct Chosen {
    /// A catalogue name, a path, or hf:owner/repo/file.
    #[arg(long, default_value = "smollm2-135m")]
    pub(crate) model: String,
    /// Threads; 0 means one per physical core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Number format of cached keys and values: f16, bf16, f32 or int8.
    #[arg(long, default_value = "f16")]
    pub(crate) kv_dtype: KvDtype,
}

impl Chosen {
    /// Threads, at least one.
    pub(crate) fn threads(&self) -> usize {
        if self.threads == 0 { models::physical_cores() } else { self.threads }
    }

    /// The rest is as a server has it.
    pub(crate) fn options(&self) -> LoadOptions {
        let (threads, kv_dtype) = (self.threads(), self.kv_dtype);
        LoadOptions { threads, kv_dtype, ..LoadOptions::default() }
    }
}

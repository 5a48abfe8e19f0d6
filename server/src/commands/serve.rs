//! `cento serve`: loads the model, starts the engine, serves HTTP until told to stop.

use crate::config::ServeConfig;

/// Serves until interrupted, then lets running streams end.
#[expect(clippy::needless_pass_by_value, reason = "the server takes its configuration")]
pub(crate) fn run(config: ServeConfig) -> anyhow::Result<()> {
    anyhow::bail!("serving on {} is not built yet", config.address)
}

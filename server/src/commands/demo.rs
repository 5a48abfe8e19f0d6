//! `cento demo`: shows on a small model what joining fragments saves.

use crate::config::EngineConfig;

/// Runs the demonstration and prints it.
#[expect(clippy::needless_pass_by_value, reason = "the command takes its configuration")]
pub(crate) fn run(config: EngineConfig) -> anyhow::Result<()> {
    anyhow::bail!("demonstrating with {} is not built yet", config.model)
}

//! `cento generate`: one generation from the command line.

use crate::config::GenerateConfig;

/// Prints the answer as it comes, or the whole result as JSON.
#[expect(clippy::needless_pass_by_value, reason = "the command takes its configuration")]
pub(crate) fn run(config: GenerateConfig) -> anyhow::Result<()> {
    anyhow::bail!("generating with {} is not built yet", config.engine.model)
}

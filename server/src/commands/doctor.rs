//! `cento doctor`: the exactness gates, run on the loaded model.

use crate::config::EngineConfig;

/// Prints each check and fails when one does.
#[expect(clippy::needless_pass_by_value, reason = "the command takes its configuration")]
pub(crate) fn run(config: EngineConfig, json: bool) -> anyhow::Result<()> {
    anyhow::bail!("checking {} (json: {json}) is not built yet", config.model)
}

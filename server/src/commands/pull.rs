//! `cento pull`: fetches a model into the cache.

use crate::args::PullArgs;

/// Fetches (or verifies) and prints the model's path.
pub(crate) fn run(args: &PullArgs) -> anyhow::Result<()> {
    anyhow::bail!("pulling {} is not built yet", args.name)
}

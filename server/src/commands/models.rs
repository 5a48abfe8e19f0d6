//! `cento models`: the models known by name and those that are cached.

use crate::args::ModelsArgs;

/// Prints a table, or JSON.
pub(crate) fn run(args: &ModelsArgs) -> anyhow::Result<()> {
    anyhow::bail!("listing models (json: {}) is not built yet", args.json)
}

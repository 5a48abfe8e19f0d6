//! `cento models`: the models known by name and those that are cached.

use crate::{Bytes, args::ModelsArgs};
use models::catalogue::{self, Listed};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::PathBuf,
};

/// Prints a table, or JSON.
pub(crate) fn run(args: &ModelsArgs) -> anyhow::Result<()> {
    let models: Vec<Row> = catalogue::list()?.into_iter().map(Row::from).collect();
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &models)?;
        writeln!(out)?;
    } else {
        write_table(&mut out, &models)?;
    }
    Ok(())
}

/// A model as the JSON shows it.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    description: String,
    arch: Option<String>,
    licence: Option<String>,
    path: Option<PathBuf>,
    cached: bool,
    bytes: Option<u64>,
    default: bool,
}

impl From<Listed> for Row {
    fn from(model: Listed) -> Self {
        Self {
            name: model.name,
            description: model.description,
            arch: model.arch,
            licence: model.licence,
            cached: model.path.is_some(),
            path: model.path,
            bytes: model.bytes,
            default: model.is_default,
        }
    }
}

fn write_table(out: &mut impl Write, models: &[Row]) -> io::Result<()> {
    let width = models.iter().map(|model| model.name.len()).max().unwrap_or(0);
    writeln!(out, "  {:width$}  {:8}  {:>10}  {:6}", "NAME", "ARCH", "SIZE", "CACHED")?;
    for model in models {
        let mark = if model.default { '*' } else { ' ' };
        let arch = model.arch.as_deref().unwrap_or("?");
        let size = model.bytes.map_or_else(|| "?".to_owned(), |bytes| Bytes(bytes).to_string());
        let cached = if model.cached { "yes" } else { "no" };
        let about = &model.description;
        let line =
            format!("{mark} {:width$}  {arch:8}  {size:>10}  {cached:6}  {about}", model.name);
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(
        out,
        "\n* is used when none is named. `cento pull NAME` fetches one; a path to a GGUF"
    )?;
    writeln!(
        out,
        "file or a safetensors folder, or hf:OWNER/REPO/FILE, works wherever a name does."
    )
}

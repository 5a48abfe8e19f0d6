//! `run`: one task under several arms, item by item, and on from where it was stopped.

use crate::{
    arm::{Arm, KV, Way},
    backend::{Backend, Http, Local},
    item::Item,
    measure::{ALTERNATIVES, Measure},
    outcome,
    prompt::Texts,
    provenance::Provenance,
    record::{FORMAT, Identity, Record},
    tasks::Task,
};
use anyhow::{bail, ensure};
use std::path::{Path, PathBuf};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A catalogue name, a path, or hf:OWNER/REPO/FILE.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// Arms beside `recompute`, which is always the first: join policies (`reuse`,
    /// `parallel:TEMPERATURE,SCALE`, `boundary:TOKENS`, `deviation:RATIO`, `query:RATIO`,
    /// `auto:QUALITY`), `reuse-no-root` (fragments encoded with no root), `recompute-rechunked`
    /// (the noise floor). `@int8` behind an arm keeps its KV in that format (f16, bf16, f32, int8).
    #[arg(long, num_args = 1.., required = true, value_name = "ARM")]
    policy: Vec<Arm>,
    /// What is asked; `cento-eval tasks` lists them.
    #[arg(long)]
    task: String,
    /// Folder with data sets' files, for tasks that read some.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the result goes. Until it is whole, items done are in `FILE.partial.jsonl` beside it;
    /// the same command goes on from there.
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// Questions. Tasks that sweep over a condition make several items of each.
    #[arg(long, default_value_t = 40)]
    n: usize,
    /// The same seed makes and draws the same questions.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Fragments of an item, where the task lets that be chosen.
    #[arg(long)]
    fragments: Option<usize>,
    /// Drive this running server instead of an engine in this process. It must serve `--model`,
    /// whose tokenizer is read here: arms are given token ids.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The server's API key.
    #[arg(long, env = "CENTO_API_KEY", hide_env_values = true, requires = "server")]
    api_key: Option<String>,
    /// Threads of the engine in this process; 0 means one for each physical core.
    #[arg(long, default_value_t = 0, conflicts_with = "server")]
    threads: usize,
}

/// Measures what is not measured yet, and writes the result.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let task = Task::named(&args.task)?;
    let arms = Arm::paired(&args.policy);
    let is_remote = args.server.is_some();
    ensure!(
        !is_remote || !arms.iter().any(|arm| arm.way == Way::Rechunked),
        "{} needs the engine in this process: a server would answer from its prefix cache",
        Way::Rechunked
    );
    let other = arms.iter().find(|arm| is_remote && arm.kv != KV);
    if let Some(other) = other {
        bail!("{other}: a server has KV in one format, its own");
    }
    let items = task.items(args.seed, args.n, args.fragments, args.data)?;
    outcome::check_folder(&args.json)?;
    let texts = Texts::open(&args.model)?;
    let mut backend: Box<dyn Backend> = match &args.server {
        Some(url) => Box::new(Http::open(url, args.api_key, &args.model)?),
        None => Box::new(Local::open(&args.model, args.threads, &arms)?),
    };
    let identity = Identity {
        format: FORMAT,
        task: task.name.to_owned(),
        model: backend.card().clone(),
        seed: args.seed,
        n: args.n,
        items: items.len(),
        fragments: args.fragments,
        arms: arms.iter().map(ToString::to_string).collect(),
        alternatives: ALTERNATIVES,
        provenance: Provenance::here(),
    };
    let run = format!("eval-{}-{}", identity.task, identity.seed);
    let measure = Measure { backend: &mut *backend, texts: &texts, arms: &arms, run };
    let record = measured(measure, identity, &items, &args.json)?;
    print(&record);
    Ok(())
}

/// The record at `path`: as it is there, or measured from where its journal ends.
pub(crate) fn measured(
    mut measure: Measure<'_>,
    identity: Identity,
    items: &[Item],
    path: &Path,
) -> anyhow::Result<Record> {
    let ids: Vec<_> = items.iter().map(|item| item.id.clone()).collect();
    outcome::measured(identity, &ids, path, |at| measure.item(&items[at]))
}

/// The table of a run, as the report has it.
fn print(record: &Record) {
    println!("{}", crate::report::terminal(record));
}

#[cfg(test)]
mod tests;

//! `run`: one task under several arms, item by item, and on from where it was stopped.

use crate::{
    arm::{Arm, KV, Way},
    backend::{Backend, Http, Local},
    item::Item,
    journal::{self, Journal},
    measure::{ALTERNATIVES, Measure},
    metrics::Numbers,
    progress::Progress,
    prompt::Texts,
    provenance::Provenance,
    record::{FORMAT, Identity, ItemNumbers, Record, difference, save},
    tasks::Task,
};
use anyhow::{Context as _, bail, ensure};
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
    let folder = args.json.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        ensure!(folder.is_dir(), "--json: there is no folder {}", folder.display());
    }
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
    if path.exists() {
        let record = Record::load(path)?;
        if let Some(difference) = difference(&identity, &record.identity) {
            let path = path.display();
            bail!("{path} is of another run: {difference}; remove it or name another --json");
        }
        eprintln!("{} is complete already", path.display());
        return Ok(record);
    }
    let mut journal = Journal::<ItemNumbers>::open(path, &identity)?;
    let done = journal.done.len();
    let agrees = journal.done.iter().zip(items).all(|(done, item)| done.id == item.id);
    ensure!(
        agrees && done <= items.len(),
        "{} holds other items than this run makes",
        journal::path(path).display()
    );
    let progress = Progress::start(done, items.len());
    for (at, item) in items.iter().enumerate().skip(done) {
        let numbers = measure.item(item)?;
        let line = line(&identity, &numbers);
        journal.add(numbers)?;
        progress.tell(at + 1, &line);
    }
    let too_long = journal.done.iter().filter(|item| item.too_long.is_some()).count();
    ensure!(
        too_long < items.len(),
        "no item fits: the context holds {} positions",
        identity.model.context_max
    );
    let record = Record::of(identity, std::mem::take(&mut journal.done));
    save(&record, path)?;
    journal.remove().context("the result is written, its journal is left")?;
    Ok(record)
}

/// One item in a line.
fn line(identity: &Identity, item: &ItemNumbers) -> String {
    if let Some(needs) = item.too_long {
        let limit = identity.model.context_max;
        return format!("{}: left out, it needs {needs} positions of {limit}", item.id);
    }
    let arm = |(name, numbers): (&String, &Numbers)| {
        format!("{name} F1 {:.2} NLL {:.2} KL {:.3}", numbers.f1, numbers.nll, numbers.kl_first)
    };
    let arms: Vec<_> = identity.arms.iter().zip(&item.arms).map(arm).collect();
    format!("{} · {}", item.id, arms.join(" · "))
}

/// The table of a run, as the report has it.
fn print(record: &Record) {
    println!("{}", crate::report::terminal(record));
}

#[cfg(test)]
mod tests;

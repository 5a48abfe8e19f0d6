//! `swaps`: do models notice that a side context was swapped while they answer, and what makes them
//! notice?
//!
//! A task makes stories (`story.rs`), an arm (`arms.rs`) makes generations of their token ids
//! (`told.rs`), and `drive.rs` runs them. Each change is judged by itself: whatever the model would
//! have said before it, right lines are put in its mouth.

pub(crate) mod arms;
mod clock;
mod drive;
mod measure;
mod message;
mod record;
mod story;
mod told;

pub(crate) use record::{Identity, KIND, Numbers, Record};
pub(crate) use story::Said;

use crate::{
    chance::Chance, measure::ALTERNATIVES, outcome, prompt::Texts, provenance::Provenance,
    tasks::words,
};
use anyhow::{Context as _, bail, ensure};
use arms::Arm;
use clap::ValueEnum;
use drive::Stepped;
use engine::JoinPolicy;
use measure::Measure;
use record::FORMAT;
use std::path::{Path, PathBuf};
use story::Story;

/// Passages of a story, and sentences of each: about 60 tokens.
const FILLERS: [usize; 2] = [4, 6];

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A catalogue name, a path, or hf:OWNER/REPO/FILE.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// What changes: a clock, or a feed that messages arrive in.
    #[arg(long, num_args = 1.., default_values = ["clock", "message"], value_name = "TASK")]
    task: Vec<Task>,
    /// Ways to join, of those that a swap is possible under: `reuse`,
    /// `parallel:TEMPERATURE,SCALE`.
    #[arg(long, num_args = 1.., default_values = ["reuse"], value_name = "POLICY")]
    policy: Vec<JoinPolicy>,
    /// Stories of each task.
    #[arg(long, default_value_t = 40)]
    n: usize,
    /// Changes of a story, each swapped in behind a line of the answer.
    #[arg(long, default_value_t = 3)]
    swaps: usize,
    /// The same seed makes the same stories.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the result goes. Until it is whole, stories done are in `FILE.partial.jsonl` beside
    /// it; the same command goes on from there.
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// Threads; 0 means one for each physical core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

/// What changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Task {
    Clock,
    Message,
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Self::Clock => clock::NAME,
            Self::Message => message::NAME,
        }
    }

    fn stories(self, seed: u64, n: usize, changes: usize) -> Vec<Story> {
        match self {
            Self::Clock => clock::stories(seed, n, changes),
            Self::Message => message::stories(seed, n, changes),
        }
    }
}

/// Measures what is not measured yet, and writes the result.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let stories = stories(args)?;
    outcome::check_folder(&args.json)?;
    let texts = Texts::open(&args.model)?;
    let mut stepped = Stepped::open(&args.model, args.threads)?;
    let arms = Arm::all(&args.policy);
    let identity = Identity {
        format: FORMAT,
        tasks: args.task.iter().map(|task| task.name().to_owned()).collect(),
        model: stepped.card.clone(),
        seed: args.seed,
        n: args.n,
        swaps: args.swaps,
        arms: arms.iter().map(ToString::to_string).collect(),
        alternatives: ALTERNATIVES,
        provenance: Provenance::here(),
    };
    let run = format!("swaps-{}", args.seed);
    let measure = Measure { stepped: &mut stepped, texts: &texts, arms: &arms, run };
    let record = measured(measure, identity, &stories, &args.json)?;
    println!("{}", crate::report::terminal_of_swaps(&record));
    Ok(())
}

/// Stories of all tasks, by turns.
fn stories(args: &Args) -> anyhow::Result<Vec<Story>> {
    let (n, swaps, most) = (args.n, args.swaps, message::CHANGES_MAX);
    ensure!(n > 0, "--n is 0; it must be at least 1");
    ensure!((1..=most).contains(&swaps), "--swaps is {swaps}; it must be 1 to {most}");
    let is_possible =
        |policy: &&JoinPolicy| matches!(policy, JoinPolicy::Reuse | JoinPolicy::Parallel { .. });
    if let Some(policy) = args.policy.iter().find(|policy| !is_possible(policy)) {
        bail!("--policy is {policy}; a swap is possible under reuse and parallel only");
    }
    let mut stories: Vec<_> =
        args.task.iter().flat_map(|task| task.stories(args.seed, n, swaps)).collect();
    stories.sort_by_key(|story| story.question);
    Ok(stories)
}

/// Passages about nothing that is asked for.
fn fillers(chance: &mut Chance) -> Vec<String> {
    let [passages, sentences] = FILLERS;
    let mut passage = || {
        let text: Vec<_> = (0..sentences).map(|_| words::filler(chance)).collect();
        format!("{}\n", text.join(" "))
    };
    (0..passages).map(|_| passage()).collect()
}

/// The record at `path`: as it is there, or measured from where its journal ends.
fn measured(
    mut measure: Measure<'_>,
    identity: Identity,
    stories: &[Story],
    path: &Path,
) -> anyhow::Result<Record> {
    let ids: Vec<_> = stories.iter().map(Story::id).collect();
    outcome::measured(identity, &ids, path, |at| {
        measure.story(&stories[at]).with_context(|| format!("story {}", ids[at]))
    })
}

#[cfg(test)]
mod tests;

//! `cento-eval`: what a join costs in quality, always paired with plain concatenation.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "an eval's result is what it prints")]

mod arm;
mod backend;
mod chance;
mod clock;
mod data;
mod item;
mod journal;
mod measure;
mod metrics;
mod outcome;
mod progress;
mod prompt;
mod provenance;
mod record;
mod report;
mod run;
mod summary;
mod swaps;
mod tasks;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cento-eval", about, version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures one task under several ways to join, each paired with `recompute` on the same
    /// token ids.
    ///
    /// Example: cargo run --release -p evals -- run --model smollm2-135m --task needle
    /// --policy reuse boundary:16 --n 10 --json evals/results/smollm2-135m-needle-1.json
    Run(run::Args),
    /// Measures whether a model notices that a side context was swapped while it answers, with the
    /// side context in several places, with and without a line that tells of the change.
    ///
    /// Example: cargo run --release -p evals -- swaps --model qwen2.5-coder-0.5b --n 20
    /// --json evals/results/qwen2.5-coder-0.5b-swaps-1.json
    Swaps(swaps::Args),
    /// Lists the tasks, and which files they read.
    Tasks,
    /// Writes the report of all results in a folder: tables, and plots beside it.
    ///
    /// Example: cargo run --release -p evals -- report
    Report(report::Args),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Run(args) => run::run(args),
        Command::Swaps(args) => swaps::run(&args),
        Command::Tasks => {
            println!("{}", tasks::list());
            Ok(())
        }
        Command::Report(args) => report::run(&args),
    }
}

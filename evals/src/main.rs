//! `cento-eval`: what a join costs in quality, always paired with plain concatenation.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "an eval's result is what it prints")]

mod needles;
mod session;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cento-eval", about, version)]
struct Args {
    #[command(subcommand)]
    eval: Eval,
}

#[derive(Subcommand)]
enum Eval {
    /// Numbers hidden in fragments made from a seed, asked for: how likely the right answer is under
    /// `reuse` and under `recompute`, on the same token ids.
    ///
    /// Example: cargo run --release -p evals -- needles --model smollm2-135m --n 20 --seed 1
    Needles(needles::Args),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().eval {
        Eval::Needles(args) => {
            let report = needles::measure(&args)?;
            println!("{}", serde_json::to_string_pretty(&report)?);
        }
    }
    Ok(())
}

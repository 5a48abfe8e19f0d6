//! `cento-bench`: measures Cento in one run, beside the machine's own limits.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a bench's result is what it prints")]

mod cpu;
mod joined;
mod limits;
mod machine;
mod session;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cento-bench", about, version)]
struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Prefill, decode at depth, joined first token, memory: one model on this CPU.
    ///
    /// Example: cargo run --release -p benches -- cpu --model smollm2-135m --json
    Cpu(cpu::Args),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().bench {
        Bench::Cpu(args) => {
            let as_json = args.json;
            let report = cpu::measure(&args)?;
            let text = if as_json {
                serde_json::to_string(&report)?
            } else {
                serde_json::to_string_pretty(&report)?
            };
            println!("{text}");
        }
    }
    Ok(())
}

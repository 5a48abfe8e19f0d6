//! `cento-bench`: measures Cento in one run, beside the machine's own limits.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a bench's result is what it prints")]

mod attention;
mod batch;
mod chosen;
mod cpu;
mod gpu;
mod instructions;
mod join;
mod joined;
mod kernels;
mod limits;
mod machine;
mod peer;
mod random_file;
mod restart;
mod session;
mod shapes;
mod soak;

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
    /// What a GPU allows, every op against that, and models of usual sizes with random weights.
    ///
    /// Example: cargo run --release -p benches -- gpu --json
    Gpu(gpu::Args),
    /// The first token of cached fragments under each join policy, against plain prefill.
    ///
    /// Example: cargo run --release -p benches -- join --json
    Join(join::Args),
    /// Many sequences at once over the same cached fragments, with and without sharing the read.
    ///
    /// Example: cargo run --release -p benches -- batch --json
    Batch(batch::Args),
    /// Attention alone of many sequences over the same cached fragments, in layers of known models.
    ///
    /// Example: cargo run --release -p benches -- attention --json
    Attention(attention::Args),
    /// Cento and llama.cpp, interleaved: same file, same threads, and the ratios.
    ///
    /// Example: cargo run --release -p benches -- peer --model smollm2-135m --json
    Peer(peer::Args),
    /// The first token over fragments that a restarted process finds on disk.
    ///
    /// Example: cargo run --release -p benches -- restart --json
    Restart(restart::Args),
    /// Every op's cases in GB/s and GOP/s, beside what the machine allows.
    ///
    /// Example: cargo run --release -p benches -- kernels --filter "matmul Q4_1"
    Kernels(kernels::Args),
    /// Instructions per run of the ops that take most of the time, counted by callgrind.
    ///
    /// Example: cargo build --release -p kernels &&
    /// cargo run -p benches -- instructions --check benches/record/instructions.json
    Instructions(instructions::Args),
    /// Many clients at once against a server, for minutes: what must hold under load, and latencies.
    ///
    /// Example: cargo build --release && cargo run --release -p benches -- soak --json
    Soak(soak::Args),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().bench {
        Bench::Cpu(args) => print(&cpu::measure(&args)?, args.json),
        Bench::Gpu(args) => print(&gpu::measure(&args)?, args.json),
        Bench::Join(args) => print(&join::measure(&args)?, args.json),
        Bench::Batch(args) => print(&batch::measure(&args)?, args.json),
        Bench::Attention(args) => print(&attention::measure(&args)?, args.json),
        Bench::Peer(args) => print(&peer::measure(&args)?, args.json),
        Bench::Restart(args) => print(&restart::measure(&args)?, args.json),
        Bench::Kernels(args) => kernels::measure(&args),
        Bench::Instructions(args) => instructions::measure(&args),
        Bench::Soak(args) => {
            let report = soak::measure(&args)?;
            print(&report, args.json)?;
            report.verdict()
        }
    }
}

fn print(report: &impl serde::Serialize, on_one_line: bool) -> anyhow::Result<()> {
    let text = if on_one_line {
        serde_json::to_string(report)?
    } else {
        serde_json::to_string_pretty(report)?
    };
    println!("{text}");
    Ok(())
}

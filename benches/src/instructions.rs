//! `instructions`: how many instructions one run of an op takes, counted by callgrind.
//!
//! Counts do not depend on how busy a machine is, so they guard against regressions where wall
//! clocks cannot. Callgrind knows AVX2, not AVX-512: the AVX2 variants stand for all. What is
//! counted is the program `kernel-case` of the crate `kernels`, built as it is shipped.

use anyhow::{Context, bail, ensure};
use std::path::{Path, PathBuf};
use std::{collections::BTreeMap, process::Command};

/// What to count, and what to compare it with.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Counts to compare with: a JSON object from case to instructions. Fails where one is more
    /// than 5 % higher.
    #[arg(long)]
    check: Option<PathBuf>,
    /// Write the counts to this file.
    #[arg(long)]
    write: Option<PathBuf>,
    /// The program that runs a case, from `cargo build --release -p kernels`.
    #[arg(long, default_value = "target/release/kernel-case")]
    program: PathBuf,
}

/// Cases that are counted: what decoding and prefill spend their time in.
const COUNTED: &[&str] = &[
    "matmul Q4_1 1x2048 -> 1536",
    "matmul Q4_1 128x768 -> 512",
    "matmul Q4K 1x2048 -> 1536",
    "matmul Q5_0 1x2048 -> 1536",
    "matmul Q6K 1x2048 -> 1536",
    "attention F16 q=1 kv=4000 in 1 runs h=9/3 d=64 page=32 Plain",
    "attention F16 q=128 kv=640 in 1 runs h=9/3 d=64 page=32 Plain",
];

/// Runs each case under callgrind.
pub(crate) fn measure(args: &Args) -> anyhow::Result<()> {
    let program = &args.program;
    ensure!(
        program.is_file(),
        "{} is missing: `cargo build --release -p kernels` builds it",
        program.display()
    );
    let mut counts = BTreeMap::new();
    for &name in COUNTED {
        // The difference leaves out what the process does besides.
        let each = (count(program, name, 3)? - count(program, name, 1)?) / 2;
        println!("{each:>12}  {name}");
        counts.insert(name.to_owned(), each);
    }
    if let Some(path) = &args.write {
        std::fs::write(path, serde_json::to_string_pretty(&counts)? + "\n")?;
    }
    args.check.as_ref().map_or(Ok(()), |path| check(&counts, path))
}

fn check(counts: &BTreeMap<String, u64>, path: &PathBuf) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    let known: BTreeMap<String, u64> = serde_json::from_str(&text)?;
    let mut worse = Vec::new();
    for (name, &count) in counts {
        let known = *known.get(name).with_context(|| format!("{name} is not in the file"))?;
        if count as f64 > known as f64 * TOLERANCE {
            worse.push(format!("{name}: {count} instructions, were {known}"));
        }
    }
    ensure!(worse.is_empty(), "more instructions than before:\n{}", worse.join("\n"));
    println!("none of {} counts is over what is known by more than 5 %", counts.len());
    Ok(())
}

/// Instructions of a process that runs a case some times.
fn count(program: &Path, name: &str, rounds: u32) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([name, &rounds.to_string()])
        .env("CENTO_ISA", "avx2")
        .output()
        .context("starting valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("valgrind failed on {name}:\n{said}");
    }
    let line = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, count) = line.with_context(|| format!("no count in what valgrind said:\n{said}"))?;
    Ok(count.trim().parse()?)
}

/// The same build gives the same counts; what else is built with it may move them a little.
const TOLERANCE: f64 = 1.05;

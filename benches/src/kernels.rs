//! `kernels`: every op's cases, timed and divided by what the machine allows.

use crate::limits;
use kernels::{Cpu, Isa, case};
use serde::Serialize;
use std::hint::black_box;

/// Which cases to time, and on what.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Time only cases whose name contains this: "matmul Q4_1".
    #[arg(long, default_value = "")]
    filter: String,
    /// Threads; 0 means one per physical core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Instruction set: scalar, neon, avx2, avx512, avx512vnni. The widest of this machine if not given.
    #[arg(long, env = "CENTO_ISA")]
    isa: Option<Isa>,
    /// Print one JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Milliseconds to spend on one case.
    #[arg(long, default_value_t = 60)]
    millis: u64,
}

/// One timed case.
#[derive(Serialize)]
struct Timed {
    case: String,
    microseconds: f64,
    gbs: f64,
    gops: f64,
    /// Of the machine's reads, and of its arithmetic: the larger one bounds the case.
    share_of_reads: f64,
    share_of_ops: f64,
}

/// Prints a line per case.
pub(crate) fn measure(args: &Args) -> anyhow::Result<()> {
    let threads = if args.threads == 0 { models::physical_cores() } else { args.threads };
    let isa = args.isa.unwrap_or_else(Isa::best);
    anyhow::ensure!(isa.is_available(), "this machine has no {isa}");
    let cpu = Cpu::new(threads, isa);
    let limits = limits::measure(threads);
    if args.json {
        println!("{}", serde_json::to_string(&limits)?);
    } else {
        println!(
            "{cpu:?}: reads {:.1} GB/s, int8 {:.0} GOP/s, f32 {:.0} GFLOP/s\n\n{:<44} {:>10} {:>8} {:>8} {:>7} {:>7}",
            limits.read_gbs,
            limits.int8_gops,
            limits.f32_gflops,
            "case",
            "us",
            "GB/s",
            "GOP/s",
            "reads",
            "ops",
        );
    }
    for case in case::cases().iter().filter(|case| case.name().contains(&args.filter)) {
        let timed = time(&cpu, case.as_ref(), &limits, args.millis);
        if args.json {
            println!("{}", serde_json::to_string(&timed)?);
        } else {
            println!(
                "{:<44} {:>10.2} {:>8.2} {:>8.1} {:>6.1}% {:>6.1}%",
                timed.case,
                timed.microseconds,
                timed.gbs,
                timed.gops,
                timed.share_of_reads * 100.0,
                timed.share_of_ops * 100.0
            );
        }
    }
    Ok(())
}

fn time(cpu: &Cpu, case: &dyn case::Case, limits: &limits::Limits, millis: u64) -> Timed {
    let mut trial = case.trial(cpu, &mut case::Rng::new(1));
    let once = limits::best(|| trial.run(cpu));
    let rounds = (millis as f64 / 1e3 / 5.0 / once).clamp(1.0, 1e6) as usize;
    let seconds = limits::best(|| (0..rounds).for_each(|_| trial.run(cpu))) / rounds as f64;
    black_box(trial.output());
    let work = case.work();
    let (gbs, gops) = (work.bytes as f64 / seconds / 1e9, work.flops as f64 / seconds / 1e9);
    let integers = case.name().contains(" Q");
    let peak = if integers { limits.int8_gops } else { limits.f32_gflops };
    Timed {
        case: case.name(),
        microseconds: seconds * 1e6,
        gbs,
        gops,
        share_of_reads: gbs / limits.read_gbs,
        share_of_ops: gops / peak,
    }
}

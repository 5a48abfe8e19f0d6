//! `gpu`: what a GPU allows, every op's cases against that, and models of usual sizes with random
//! weights; with PyTorch, where it is there, doing the same in the same run.

mod desk;
mod limits;
mod model;
mod ops;
mod record;
mod torch;

use kernels::cuda::Gpu;
use models::DeviceChoice;
use record::{Record, Report};
use std::path::PathBuf;

/// Which GPU, and what to measure on it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The GPU: cuda:N.
    #[arg(long, default_value = "cuda:0")]
    device: DeviceChoice,
    /// What to measure, in this order; ops come first and are of no model.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "ops,decode,prefill,joined,shared"
    )]
    parts: Vec<Part>,
    /// Models to measure: 8b, 1b.
    #[arg(long, value_delimiter = ',', default_value = "8b,1b")]
    models: Vec<String>,
    /// Time only cases of ops whose name contains this.
    #[arg(long, default_value = "")]
    filter: String,
    /// Bytes of device memory for KV; the rest is for PyTorch.
    #[arg(long, default_value_t = 48 << 30)]
    kv_bytes: usize,
    /// Tokens of prompts.
    #[arg(long, value_delimiter = ',', default_value = "512,4096,32768")]
    prompts: Vec<usize>,
    /// Sequences that are decoded at once.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    batches: Vec<usize>,
    /// Rows before each of them.
    #[arg(long, value_delimiter = ',', default_value = "0,4096,32768")]
    depths: Vec<usize>,
    /// Leave PyTorch out.
    #[arg(long)]
    alone: bool,
    /// Write the report to this file as well, anew after each number: who is ended early leaves it.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Every op's cases.
    Ops,
    /// A token more for each of several sequences.
    Decode,
    /// A prompt that nothing is known of.
    Prefill,
    /// The first token over cached fragments.
    Joined,
    /// Sequences that look at the same rows.
    Shared,
}

/// Limits first, then ops, then models.
pub(crate) fn measure(args: &Args) -> anyhow::Result<Report> {
    let DeviceChoice::Cuda(number) = args.device else {
        anyhow::bail!("--device {}: a GPU is measured, such as cuda:0", args.device)
    };
    let images = models::catalogue::cache_folder().ok().map(|folder| folder.join("cuda"));
    let gpu = Gpu::open(number, images)?;
    eprintln!("{gpu:?}");
    gpu.compile()?;
    let limits = limits::measure(&gpu)?;
    eprintln!("copy {:.0} GB/s, bf16 {:.0} TFLOP/s", limits.copy_gbs, limits.bf16_tflops);
    let mut record = Record::begin(gpu.device().to_string(), limits, args.save.clone())?;
    if args.parts.contains(&Part::Ops) {
        record.report.ops = ops::measure(&gpu, &limits, &args.filter)?;
        record.save()?;
    }
    let mut peer = torch::Peer::start(number, args.alone);
    record.report.peer = peer.description();
    if args.parts.iter().any(|&part| part != Part::Ops) {
        for name in &args.models {
            model::measure(&gpu, name, args, (&mut record, &mut peer))?;
        }
    }
    // It may have stopped answering.
    record.report.peer = peer.description();
    record.report.is_whole = true;
    record.save()?;
    Ok(record.report)
}

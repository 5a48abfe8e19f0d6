//! `gpu`: what a GPU allows, every op's cases against that, and models of usual sizes with random
//! weights; with PyTorch, where it is there, doing the same in the same run.

mod desk;
mod limits;
mod model;
mod ops;
mod torch;

use kernels::cuda::Gpu;
use limits::Limits;
use models::DeviceChoice;
use serde::Serialize;

/// Which GPU, and what to measure on it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The GPU: cuda:N.
    #[arg(long, default_value = "cuda:0")]
    device: DeviceChoice,
    /// Models to measure: 8b, 1b; none for ops alone.
    #[arg(long, value_delimiter = ',', default_value = "8b,1b")]
    models: Vec<String>,
    /// Time only cases of ops whose name contains this.
    #[arg(long, default_value = "")]
    filter: String,
    /// Bytes of device memory for KV; the rest is for PyTorch.
    #[arg(long, default_value_t = 48 << 30)]
    kv_bytes: usize,
    /// Leave PyTorch out.
    #[arg(long)]
    alone: bool,
    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Everything that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    device: String,
    limits: Limits,
    ops: Vec<ops::Timed>,
    models: Vec<model::Measured>,
    /// PyTorch's version, or why it was left out.
    peer: String,
}

/// Limits first, then ops, then models.
pub(crate) fn measure(args: &Args) -> anyhow::Result<Report> {
    let DeviceChoice::Cuda(number) = args.device else {
        anyhow::bail!("--device {}: a GPU is measured, such as cuda:0", args.device)
    };
    let images = models::catalogue::cache_folder().ok().map(|folder| folder.join("cuda"));
    let gpu = Gpu::open(number, images)?;
    eprintln!("{gpu:?}");
    let limits = limits::measure(&gpu)?;
    eprintln!("copy {:.0} GB/s, bf16 {:.0} TFLOP/s", limits.copy_gbs, limits.bf16_tflops);
    let ops = ops::measure(&gpu, &limits, &args.filter)?;
    let mut peer = torch::Peer::start(number, args.alone);
    let mut models = Vec::new();
    for name in &args.models {
        models.push(model::measure(&gpu, name, args.kv_bytes, (&limits, &mut peer))?);
    }
    let device = gpu.device().to_string();
    Ok(Report { device, limits, ops, models, peer: peer.description() })
}

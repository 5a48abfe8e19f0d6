//! Every op's cases on a GPU, in GB/s and TFLOP/s beside what it allows. Cases are small: those that
//! take a few microseconds measure how fast launches follow one another.

use super::limits::{Limits, seconds};
use kernels::case::{Rng, cases};
use kernels::cuda::Gpu;
use kernels::{Cpu, Isa};
use serde::Serialize;

/// One timed case.
#[derive(Serialize)]
pub(super) struct Timed {
    case: String,
    kernel: &'static str,
    microseconds: f64,
    gbs: f64,
    tflops: f64,
    share_of_copy: f64,
    share_of_products: f64,
}

pub(super) fn measure(gpu: &Gpu, limits: &Limits, filter: &str) -> anyhow::Result<Vec<Timed>> {
    let cpu = Cpu::new(1, Isa::best());
    let mut all = Vec::new();
    for case in cases().iter().filter(|case| case.name().contains(filter)) {
        let trial = case.trial(&cpu, &mut Rng::new(1));
        for mut on_gpu in trial.on_gpu(gpu)? {
            let kernel = on_gpu.name();
            let once = seconds(gpu, 1, || on_gpu.run())?;
            let rounds = (ROW_SECONDS / once).clamp(1.0, 1000.0) as usize;
            let seconds = seconds(gpu, rounds, || on_gpu.run())?;
            let work = case.work();
            let (gbs, tflops) =
                (work.bytes as f64 / seconds / 1e9, work.flops as f64 / seconds / 1e12);
            all.push(Timed {
                case: case.name(),
                kernel,
                microseconds: seconds * 1e6,
                gbs,
                tflops,
                share_of_copy: gbs / limits.copy_gbs,
                share_of_products: tflops / limits.bf16_tflops,
            });
        }
    }
    Ok(all)
}

/// Seconds of one row of calls.
const ROW_SECONDS: f64 = 0.01;

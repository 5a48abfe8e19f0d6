//! Every case that a device has a kernel for, on a device, against the reference.
//!
//! Without a GPU the launches are made on an imagined one: their shapes and arguments are checked,
//! nothing is computed. `REQUIRE_GPU=1` makes that a failure.

use kernels::case::{Case, GpuTrial, Rng, cases, gpu};
use kernels::cuda::Gpu;
use kernels::{Cpu, Isa};

const SEED: u64 = 7;

#[test]
fn every_case_agrees_with_its_reference_on_the_gpu() {
    let (gpu, cpu) = (gpu(), Cpu::new(1, Isa::Scalar));
    let mut trials = 0;
    for case in cases() {
        let trial = case.trial(&cpu, &mut Rng::new(SEED));
        let on_gpu = trial.on_gpu(&gpu).unwrap_or_else(|error| panic!("{}: {error}", case.name()));
        for mut trial in on_gpu {
            check(&gpu, case.as_ref(), &mut trial);
            trials += 1;
        }
    }
    println!("{trials} trials on {gpu:?}");
}

/// Runs a case twice, and compares the first outputs with the reference's and with the second.
fn check(gpu: &Gpu, case: &dyn Case, trial: &mut GpuTrial<'_>) {
    let name = format!("{}, {}", case.name(), trial.name());
    let mut once = || {
        trial.run().unwrap_or_else(|error| panic!("{name}: {error}"));
        trial.output().unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let (outputs, again) = (once(), once());
    if gpu.is_imagined() {
        return;
    }
    let (expected, tolerance) = (trial.expected(), trial.tolerance());
    assert_eq!(outputs.len(), expected.len(), "{name}");
    for (i, (got, expected)) in outputs.iter().zip(&expected).enumerate() {
        let error = (got - expected.value).abs();
        let allowed = tolerance.relative * expected.magnitude;
        assert!(
            error <= allowed,
            "{name}, seed {SEED}, output {i}: {got}, expected {}; error {error:e} over \
             {allowed:e} ({})",
            expected.value,
            tolerance.reason,
        );
    }
    let bits = |outputs: &[f32]| outputs.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert!(bits(&outputs) == bits(&again), "{name}: the same bits each time");
}

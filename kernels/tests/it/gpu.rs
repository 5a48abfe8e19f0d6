//! Every case that a device has a kernel for, on a device, against the reference.
//!
//! Without a GPU the launches are made on an imagined one: their shapes and arguments are checked,
//! nothing is computed. `REQUIRE_GPU=1` makes that a failure.

use kernels::case::{Case, GpuTrial, Rng, cases, gpu};
use kernels::cuda::Gpu;
use kernels::{Cpu, Isa};

const SEED: u64 = 7;

/// Alone it fills the folder of images, so that what runs after it waits for no compiler.
#[test]
fn every_source_compiles_and_loads_on_the_gpu() {
    gpu().compile().unwrap_or_else(|error| panic!("{error}"));
}

/// Time on a GPU is rare, so a case that fails does not hide the next.
#[test]
fn every_case_agrees_with_its_reference_on_the_gpu() {
    let (gpu, cpu) = (gpu(), Cpu::new(1, Isa::Scalar));
    let (mut trials, mut failed) = (0, Vec::new());
    for case in cases() {
        let trial = case.trial(&cpu, &mut Rng::new(SEED));
        let on_gpu = trial.on_gpu(&gpu).unwrap_or_else(|error| panic!("{}: {error}", case.name()));
        for mut trial in on_gpu {
            trials += 1;
            if let Err(why) = check(&gpu, case.as_ref(), &mut trial) {
                println!("{why}");
                failed.push(why);
                // A kernel that went astray takes the device from all that follow.
                gpu.wait().unwrap_or_else(|error| panic!("{failed:#?}, and then {error}"));
            }
        }
    }
    println!("{trials} trials on {gpu:?}");
    assert!(failed.is_empty(), "{} of {trials} trials failed: {failed:#?}", failed.len());
}

/// Runs a case twice, and compares the first outputs with the reference's and with the second.
fn check(gpu: &Gpu, case: &dyn Case, trial: &mut GpuTrial<'_>) -> Result<(), String> {
    let name = format!("{}, {}", case.name(), trial.name());
    let mut once = || {
        trial.run().map_err(|error| format!("{name}: {error}"))?;
        trial.output().map_err(|error| format!("{name}: {error}"))
    };
    let (outputs, again) = (once()?, once()?);
    if gpu.is_imagined() {
        return Ok(());
    }
    let (expected, tolerance) = (trial.expected(), trial.tolerance());
    assert_eq!(outputs.len(), expected.len(), "{name}");
    let pairs = outputs.iter().zip(&expected).enumerate();
    let mut wrong = pairs.filter(|(_, (got, expected))| {
        let allowed = tolerance.relative * expected.magnitude;
        let agrees = (*got - expected.value).abs() <= allowed;
        !agrees
    });
    if let Some((i, (got, expected))) = wrong.next() {
        return Err(format!(
            "{name}, seed {SEED}, output {i} and {} more of {}: {got}, expected {}; error {:e} over \
             {:e} ({})",
            wrong.count(),
            outputs.len(),
            expected.value,
            (got - expected.value).abs(),
            tolerance.relative * expected.magnitude,
            tolerance.reason,
        ));
    }
    let bits = |outputs: &[f32]| outputs.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    if bits(&outputs) == bits(&again) {
        Ok(())
    } else {
        Err(format!("{name}: other bits each time"))
    }
}

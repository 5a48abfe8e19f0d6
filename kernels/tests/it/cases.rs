//! Every case of every op, on every available instruction set, against the reference.

use kernels::case::{Case, Rng, cases};
use kernels::{Cpu, Isa};

const SEED: u64 = 7;

#[test]
fn every_case_agrees_with_its_reference() {
    for isa in Isa::tested() {
        for case in cases() {
            check(case.as_ref(), isa);
        }
    }
}

/// Compares a case's outputs with the reference's.
fn check(case: &dyn Case, isa: Isa) {
    let cpu = Cpu::new(2, isa);
    let mut trial = case.trial(&cpu, &mut Rng::new(SEED));
    trial.run(&cpu);
    let (expected, tolerance) = (trial.expected(), case.tolerance());
    assert_eq!(trial.output().len(), expected.len(), "{} on {isa}", case.name());
    for (i, (got, expected)) in trial.output().iter().zip(&expected).enumerate() {
        let error = (got - expected.value).abs();
        let allowed = tolerance.relative * expected.magnitude;
        assert!(
            error <= allowed,
            "{} on {isa}, seed {SEED}, output {i}: {got}, expected {}; error {error:e} over \
             {allowed:e} ({})",
            case.name(),
            expected.value,
            tolerance.reason,
        );
    }
}

#[test]
fn outputs_do_not_depend_on_threads() {
    for isa in Isa::tested() {
        for case in cases() {
            let bits = [1, 2, 3].map(|threads| {
                let cpu = Cpu::new(threads, isa);
                let mut trial = case.trial(&cpu, &mut Rng::new(SEED));
                trial.run(&cpu);
                trial.output().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
            });
            assert!(bits[0] == bits[1] && bits[0] == bits[2], "{} on {isa}", case.name());
        }
    }
}

//! `kernel-case NAME ROUNDS`: runs one case of an op, for a profiler to watch.
//!
//! On one thread and with AVX2, which every profiler knows; `CENTO_ISA` asks for another set.

#![forbid(unsafe_code)]

use kernels::case::{Rng, cases};
use kernels::{Cpu, Isa};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(rounds), None) = (args.next(), args.next(), args.next()) else {
        return Err("usage: kernel-case NAME ROUNDS".into());
    };
    let isa = match std::env::var("CENTO_ISA") {
        Ok(isa) => isa.parse()?,
        Err(_) => Isa::Avx2,
    };
    if !isa.is_available() {
        return Err(format!("this machine has no {isa}").into());
    }
    let cpu = Cpu::new(1, isa);
    let cases = cases();
    let case = cases.iter().find(|case| case.name() == name).ok_or("no case has this name")?;
    let mut trial = case.trial(&cpu, &mut Rng::new(1));
    for _ in 0..rounds.parse()? {
        trial.run(&cpu);
    }
    std::hint::black_box(trial.output());
    Ok(())
}

//! The simulator: random work under random pressure, and every answer must be the oracle's.
//!
//! `SIM_SEED=n` runs one seed, which is what a failure prints; `SIM_SEEDS=n` runs more than usual.

mod chance;
mod script;
mod shelf;

use script::Sim;
use std::{env, panic, thread};

const SEEDS: u64 = 10_000;

#[test]
fn every_answer_is_the_oracles_under_any_pressure() {
    if let Ok(seed) = env::var("SIM_SEED") {
        Sim::run(seed.parse().expect("SIM_SEED is a number"));
        return;
    }
    let seeds = env::var("SIM_SEEDS").map_or(SEEDS, |n| n.parse().expect("SIM_SEEDS is a number"));
    let lanes = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let run = |lane: u64| {
        let mut pressure = script::Pressure::default();
        for seed in (lane..seeds.max(SEEDS)).step_by(lanes as usize) {
            match panic::catch_unwind(|| Sim::run(seed)) {
                Ok(of_seed) => pressure.add(&of_seed),
                Err(panic) => {
                    eprintln!("replay with SIM_SEED={seed}");
                    panic::resume_unwind(panic);
                }
            }
        }
        pressure
    };
    let pressure = thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|lane| scope.spawn(move || run(lane))).collect();
        let mut all = script::Pressure::default();
        for lane in lanes {
            all.add(&lane.join().unwrap_or_else(|panic| panic::resume_unwind(panic)));
        }
        all
    });
    println!("{pressure:?}");
    pressure.check();
}

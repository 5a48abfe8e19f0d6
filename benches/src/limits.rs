//! What the machine itself allows, measured in the same run.

use kernels::{Cpu, Isa, peak_f32, peak_f32_ops, peak_int8, peak_int8_ops};
use serde::Serialize;
use std::{hint::black_box, thread, time::Instant};

/// Upper bounds of the machine.
#[derive(Serialize)]
pub(crate) struct Limits {
    /// Sequential reads by all threads, 10^9 bytes per second.
    pub(crate) read_gbs: f64,
    /// Products and sums of 8-bit integers in registers, 10^9 per second.
    pub(crate) int8_gops: f64,
    /// Products and sums of f32 numbers in registers, 10^9 per second.
    pub(crate) f32_gflops: f64,
}

/// Bytes each thread reads: far beyond a core's own caches.
const BYTES: usize = 256 << 20;

/// Products of every lane in one call: some milliseconds.
const ROUNDS: usize = 2_000_000;

/// Measures with `threads` threads.
pub(crate) fn measure(threads: usize) -> Limits {
    let cpu = Cpu::new(threads, Isa::best());
    Limits {
        read_gbs: read_gbs(threads),
        int8_gops: peak_int8_ops(&cpu, ROUNDS) as f64 / best(|| peak_int8(&cpu, ROUNDS)) / 1e9,
        f32_gflops: peak_f32_ops(&cpu, ROUNDS) as f64 / best(|| peak_f32(&cpu, ROUNDS)) / 1e9,
    }
}

/// Seconds of the fastest of some calls.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
pub(crate) fn best(mut call: impl FnMut()) -> f64 {
    let seconds = (0..5).map(|_| {
        let begun = Instant::now();
        call();
        begun.elapsed().as_secs_f64()
    });
    seconds.fold(f64::INFINITY, f64::min)
}

fn read_gbs(threads: usize) -> f64 {
    let buffers: Vec<Vec<u64>> =
        (0..threads).map(|t| vec![t as u64 + 1; BYTES / size_of::<u64>()]).collect();
    let seconds = best(|| {
        thread::scope(|scope| {
            for buffer in &buffers {
                scope.spawn(|| black_box(buffer.iter().fold(0, |sum: u64, x| sum ^ x)));
            }
        });
    });
    (threads * BYTES) as f64 / seconds / 1e9
}

//! What the machine itself allows, measured in the same run.

use serde::Serialize;
use std::{hint::black_box, thread, time::Instant};

/// Upper bounds of the machine.
#[derive(Serialize)]
pub(crate) struct Limits {
    /// Sequential reads by all threads, 10^9 bytes per second.
    read_gbs: f64,
}

/// Bytes each thread reads: far beyond a core's own caches.
const BYTES: usize = 256 << 20;

/// Measures with `threads` threads.
pub(crate) fn measure(threads: usize) -> Limits {
    Limits { read_gbs: read_gbs(threads) }
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn read_gbs(threads: usize) -> f64 {
    let buffers: Vec<Vec<u64>> =
        (0..threads).map(|t| vec![t as u64 + 1; BYTES / size_of::<u64>()]).collect();
    let best = (0..3)
        .map(|_| {
            let begun = Instant::now();
            thread::scope(|scope| {
                for buffer in &buffers {
                    scope.spawn(|| black_box(buffer.iter().fold(0, |sum: u64, x| sum ^ x)));
                }
            });
            begun.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    (threads * BYTES) as f64 / best / 1e9
}

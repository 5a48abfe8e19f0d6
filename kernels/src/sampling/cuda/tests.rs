//! What a device finds of logits is what the host finds.

use super::*;
use crate::PenaltyScratch;
use crate::case::{Rng, gpu};

const VOCAB: usize = 10_000;

/// Rows with ties, with tokens that have no probability, and with logits that are none.
fn logits() -> Vec<f32> {
    let mut rng = Rng::new(3);
    let mut logits: Vec<f32> = (0..6 * VOCAB).map(|_| 10.0 * rng.signed()).collect();
    let (_, rest) = logits.split_at_mut(VOCAB);
    let rows: Vec<&mut [f32]> = rest.chunks_mut(VOCAB).collect();
    let [ties, sparse, wrong, infinite, none] = rows.try_into().expect("five rows more");
    for x in ties.iter_mut() {
        *x = x.round();
    }
    sparse.iter_mut().skip(3).for_each(|x| *x = f32::NEG_INFINITY);
    (wrong[700], wrong[5000]) = (f32::NAN, f32::INFINITY);
    infinite[9999] = f32::INFINITY;
    none.fill(f32::NEG_INFINITY);
    logits
}

#[test]
fn choices_are_made_of_what_the_host_finds() {
    let (gpu, host) = (gpu(), logits());
    let rows = host.len() / VOCAB;
    let mut choices = GpuChoices::new(&gpu, rows, VOCAB, Choice::TOP_MAX).expect("small arrays");
    let on_gpu = Buffer::of(&gpu, &host).expect("a small array");
    let mut all = Vec::new();
    for (count, temperature) in [(Choice::TOP_MAX, 1.5), (0, 0.0), (1, 0.7), (20, 1.0)] {
        choices.set_temperatures(&vec![temperature; rows]).expect("a copy");
        choices.find(&gpu, &on_gpu, (rows, count)).expect("a launch");
        choices.read((rows, count), &mut all).expect("copies");
        assert_eq!(all.len(), rows);
        if gpu.is_imagined() {
            continue;
        }
        for (row, (found, logits)) in all.iter().zip(host.chunks(VOCAB)).enumerate() {
            let of = format!("row {row}, {count} at {temperature}: {found:?}");
            let want = Choice::of(logits, temperature, count);
            assert_eq!(found.likeliest, want.likeliest, "{of}");
            if found.likeliest.is_err() {
                continue;
            }
            // Each part's sum is of exponentials within 2 ulp.
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b.abs();
            assert!(close(found.log_sum_exp.into(), want.log_sum_exp.into()), "{of}");
            assert!(close(found.tempered, want.tempered), "{of}");
            assert_eq!((found.max, &found.top), (want.max, &want.top), "{of}");
        }
    }
}

#[test]
fn fewer_are_found_of_more_than_a_block_takes() {
    let most = [1, PART, 151_936, 262_144, 262_145, 1 << 26].map(GpuChoices::count_max);
    assert_eq!(most, [256, 256, 256, 256, 252, 1]);
}

#[test]
fn penalties_and_caps_are_those_of_the_host() {
    let (gpu, cap) = (gpu(), 30.0_f32);
    let mut host: Vec<f32> = logits()[..2 * VOCAB].to_vec();
    let penalties = [
        Penalties { repetition: 1.3, presence: 0.5, frequency: 0.25 },
        Penalties { repetition: 1.0, presence: 0.0, frequency: 1.0 },
    ];
    let (tail, answer) = ([5_u32, 7, 5, 9000], [7_u32, 7, 11]);
    // Each token that was seen, and how often it is in the answer.
    let (tokens, times) = ([5_u32, 7, 9000, 11], [0_u32, 2, 0, 1]);
    let mut on_gpu = Buffer::of(&gpu, &host).expect("a small array");
    softcap(&gpu, &mut on_gpu, host.len(), cap).expect("a launch");
    let small = "a small array";
    let seen = SeenTokens {
        penalties: &Buffer::of(&gpu, &penalties.map(|p| penalties_of(&p))).expect(small),
        first: &Buffer::of(&gpu, &[0, 4, 8]).expect(small),
        tokens: &Buffer::of(&gpu, &[tokens, tokens].concat()).expect(small),
        times: &Buffer::of(&gpu, &[times, times].concat()).expect(small),
    };
    penalize(&gpu, &mut on_gpu, (2, VOCAB), &seen).expect("a launch");
    for x in &mut host {
        *x = cap * (*x / cap).tanh();
    }
    let mut scratch = PenaltyScratch::default();
    for (logits, penalties) in host.chunks_mut(VOCAB).zip(&penalties) {
        crate::penalize(logits, penalties, &tail, &answer, &mut scratch);
    }
    let got = on_gpu.to_vec().expect("a copy");
    if !gpu.is_imagined() {
        // A hyperbolic tangent within 2 ulp, and a few roundings.
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 8.0 * f32::EPSILON * b.abs().max(1.0);
        assert!(got.iter().zip(&host).all(close));
    }
}

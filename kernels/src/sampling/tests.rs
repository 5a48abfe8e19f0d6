//! Sampling against sorting, counting and published vectors.

use super::reference::kept;
use super::uniform::philox;
use super::*;

fn logits(seed: u64, count: usize) -> Vec<f32> {
    (0..count as u64).map(|i| (uniform(seed, i) as f32 * 40.0).round() / 4.0 - 5.0).collect()
}

#[test]
fn philox_is_random123s() {
    // philox4x32, 10 rounds, of Random123's kat_vectors.
    let vectors = [
        ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ];
    for (counter, key, want) in vectors {
        assert_eq!(philox(counter, key), want);
    }
}

#[test]
fn uniform_is_uniform_and_depends_on_both() {
    let numbers: Vec<f64> = (0..10_000).map(|i| uniform(42, i)).collect();
    assert!(numbers.iter().all(|u| (0.0..1.0).contains(u)));
    for tenth in 0..10 {
        let share = numbers.iter().filter(|u| (**u * 10.0) as usize == tenth).count();
        assert!((850..1150).contains(&share), "{tenth}: {share}"); // 5 sigma
    }
    assert_eq!(uniform(1, 2), uniform(1, 2));
    assert!(uniform(1, 2) != uniform(2, 1) && uniform(0, 1) != uniform(1 << 40, 1));
    assert!(uniform(7, 1) != uniform(7, 1 << 32 | 1));
}

#[test]
fn log_sum_exp_is_shift_invariant_and_exact_enough() {
    for seed in 0..20 {
        let logits = logits(seed, 5000);
        let plain: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        assert!((f64::from(log_sum_exp(&logits)) - plain).abs() < 1e-6);
        let far: Vec<f32> = logits.iter().map(|x| x + 1000.0).collect();
        assert!((f64::from(log_sum_exp(&far)) - 1000.0 - plain).abs() < 1e-4);
    }
    assert_eq!(log_sum_exp(&[]), f32::NEG_INFINITY);
    assert_eq!(log_sum_exp(&[f32::NEG_INFINITY, 3.0]), 3.0);
    assert!(log_sum_exp(&[0.0, f32::NAN]).is_nan());
}

#[test]
fn top_is_a_sort_with_ties_to_the_lower_id() {
    for seed in 0..20 {
        let logits = logits(seed, 300); // 161 values: many ties
        let mut sorted: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        for n in [0, 1, 2, 10, 299, 300, 1000] {
            assert_eq!(top(&logits, n), sorted[..n.min(300)], "{seed} {n}");
        }
        assert_eq!(greedy(&logits), Ok(sorted[0].0));
    }
    assert_eq!(top(&[0.0, -0.0, 0.0], 3).iter().map(|t| t.0).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn penalties_are_their_definitions() {
    let penalties = Penalties { repetition: 2.0, presence: 0.25, frequency: 0.5 };
    let mut scratch = PenaltyScratch::default();
    let before = [1.0, -1.0, 4.0, 0.0, 8.0, -2.0];
    for _ in 0..2 {
        let mut logits = before;
        let (tail, answer) = ([0, 1, 4, 99], [4, 4, 5, 2, 99]);
        penalize(&mut logits, &penalties, &tail, &answer, &mut scratch);
        let once = 0.25 + 0.5;
        let twice = 0.25 + 1.0;
        assert_eq!(logits, [0.5, -2.0, 2.0 - once, 0.0, 4.0 - twice, -4.0 - once]);
    }
    let mut logits = before;
    penalize(&mut logits, &Penalties::OFF, &[0, 1], &[2], &mut scratch);
    assert_eq!(logits, before);
}

#[test]
fn every_u_falls_on_the_token_whose_share_it_is() {
    let mut scratch = ChoiceScratch::default();
    let none = Filters { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
    for (i, filters) in [
        none,
        Filters { temperature: 0.3, ..none },
        Filters { temperature: 5.0, ..none },
        Filters { top_k: 1, ..none },
        Filters { top_k: 7, ..none },
        Filters { top_k: 5000, ..none },
        Filters { top_p: 0.0, ..none },
        Filters { top_p: 0.31, ..none },
        Filters { top_p: 0.9, temperature: 4.0, ..none },
        Filters { top_p: 0.999, temperature: 30.0, ..none },
        Filters { min_p: 0.1, temperature: 2.0, ..none },
        Filters { top_k: 40, top_p: 0.83, min_p: 0.05, temperature: 1.5 },
    ]
    .into_iter()
    .enumerate()
    {
        for seed in 0..10 {
            let logits: Vec<f32> =
                (0..1000).map(|t| uniform(seed, t) as f32 * 12.0 - 5.0).collect();
            let shares = kept(&logits, &filters);
            let mut from = 0.0;
            let wide = shares.iter().filter(|s| s.1 > 1e-9); // u has 53 bits
            for (token, share) in wide.step_by(1 + shares.len() / 40) {
                // Walk to where this token's share begins, and take its middle.
                from = shares.iter().take_while(|s| s.0 < *token).map(|s| s.1).sum::<f64>();
                let chosen = choose(&logits, &filters, from + share / 2.0, &mut scratch);
                assert_eq!(chosen, Ok(*token), "filters {i} seed {seed}");
            }
            assert!(from < 1.0);
            let last = choose(&logits, &filters, 1.0 - f64::EPSILON, &mut scratch).unwrap();
            assert!(shares.iter().any(|s| s.0 == last), "filters {i} seed {seed}");
        }
    }
}

#[test]
fn greedy_is_the_lowest_of_the_largest_and_nan_is_an_error() {
    let mut scratch = ChoiceScratch::default();
    let mut at = |logits: &[f32]| choose(logits, &Filters::GREEDY, 0.7, &mut scratch);
    assert_eq!(at(&[1.0, 3.0, 3.0, 2.0]), Ok(1));
    assert_eq!(at(&[f32::NEG_INFINITY, -3.0]), Ok(1));
    assert_eq!(at(&[1.0, f32::NAN]), Err(SampleError::NotFinite(1)));
    assert_eq!(at(&[f32::INFINITY, 1.0]), Err(SampleError::NotFinite(0)));
    assert_eq!(at(&[]), Err(SampleError::Empty));
    assert_eq!(at(&[f32::NEG_INFINITY; 3]), Err(SampleError::Empty));
    // Whole blocks and what is left of them, with ties, and what is no number at every place.
    for count in [1, 7, 255, 256, 257, 700] {
        let mut logits = logits(count, count as usize);
        let all: Vec<f32> = logits.clone();
        let first_of_largest = (0..all.len()).find(|&i| all.iter().all(|&x| x <= all[i]));
        assert_eq!(at(&all), Ok(first_of_largest.unwrap() as u32), "{all:?}");
        for place in 0..all.len() {
            for bad in [f32::NAN, f32::INFINITY] {
                logits[place] = bad;
                assert_eq!(at(&logits), Err(SampleError::NotFinite(place as u32)));
            }
            logits[place] = all[place];
        }
    }
    let sampled = Filters { temperature: 1.0, ..Filters::GREEDY };
    let nan = choose(&[0.0, f32::NAN], &sampled, 0.1, &mut ChoiceScratch::default());
    assert_eq!(nan, Err(SampleError::NotFinite(1)));
}

//! A choice says what the whole row says, or that it takes the row.

use super::*;

const VOCAB: usize = 700;

/// Rows with ties, flat and steep ones, with tokens of no probability, and with logits that are none.
fn row(seed: u64) -> Vec<f32> {
    let number = |i: usize| uniform(seed, i as u64) as f32;
    let steep = [0.5, 4.0, 20.0, 60.0][seed as usize % 4];
    let mut row: Vec<f32> = (0..VOCAB).map(|i| (number(i) - 0.6) * steep).collect();
    match seed / 4 % 6 {
        0 => row.iter_mut().for_each(|x| *x = x.round()),
        1 => row.iter_mut().skip(1 + seed as usize % 90).for_each(|x| *x = f32::NEG_INFINITY),
        2 => row[(seed * 37) as usize % VOCAB] += 30.0,
        _ => {}
    }
    match seed % 29 {
        0 => row[(seed * 31) as usize % VOCAB] = f32::NAN,
        1 => row[(seed * 17) as usize % VOCAB] = f32::INFINITY,
        2 => row.fill(f32::NEG_INFINITY),
        _ => {}
    }
    row
}

fn filters(seed: u64) -> Filters {
    let pick = |which: u64, of: &[f32]| of[(uniform(seed, which) * of.len() as f64) as usize];
    Filters {
        temperature: pick(0, &[0.0, 0.3, 1.0, 1.0, 1.7]),
        top_k: pick(1, &[0.0, 0.0, 1.0, 5.0, 40.0, 256.0, 2000.0]) as usize,
        top_p: pick(2, &[1.0, 1.0, 1e-6, 0.5, 0.9, 0.95, 0.999_999]),
        min_p: pick(3, &[0.0, 0.0, 0.05, 0.5, 1.0]),
    }
}

#[test]
fn a_choice_chooses_what_the_row_chooses_or_takes_the_row() {
    let mut scratch = ChoiceScratch::default();
    let (mut chosen, mut open, mut wrong) = (0, 0, 0);
    for seed in 0..20_000 {
        let (row, filters) = (row(seed), filters(seed ^ 0xf117));
        let count = [0, 1, 20, 64, Choice::TOP_MAX][seed as usize % 5];
        let u = uniform(seed ^ 0xc0de, 0);
        let want = choose(&row, &filters, u, &mut scratch);
        let mut choice = Choice::of(&row, filters.temperature, count);
        // A device's sum is off by as much as this.
        for off in [0.0, -2e-6, 2e-6] {
            choice.tempered *= 1.0 + off;
            match choice.choose(&filters, u, &mut scratch) {
                Ok(Some(token)) => {
                    assert_eq!(Ok(token), want, "{seed}: {filters:?}");
                    assert!(filters.may_keep_few(), "{seed}: {filters:?}");
                }
                Ok(None) => assert!(want.is_ok() && !is_certain(&filters, count), "{seed}"),
                Err(error) => assert_eq!(Err(error), want, "{seed}"),
            }
        }
        match choice.choose(&filters, u, &mut scratch) {
            Ok(Some(_)) => chosen += 1,
            Ok(None) => open += 1,
            Err(_) => wrong += 1,
        }
    }
    assert!(chosen > 8_000 && open > 4_000 && wrong > 1_000, "{chosen}, {open}, {wrong}");
}

/// What these filters keep is among so many tokens, whatever the row.
fn is_certain(filters: &Filters, count: usize) -> bool {
    let is_few = filters.top_p == 1.0 && 0 < filters.top_k && filters.top_k <= count;
    filters.temperature <= 0.0 || is_few
}

#[test]
fn a_choice_guesses_nothing() {
    let mut scratch = ChoiceScratch::default();
    let all = Filters { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
    let mut choose = |row: &[f32], count, filters: Filters| {
        Choice::of(row, filters.temperature, count).choose(&filters, 0.99, &mut scratch)
    };
    let row = [2.0, 2.0, 1.0, 0.0, f32::NEG_INFINITY];
    // All tokens were found, but nothing says that there are no more.
    assert_eq!(choose(&row, 5, all), Ok(None));
    assert_eq!(choose(&row, 5, Filters { top_k: 6, ..all }), Ok(None));
    assert_eq!(choose(&row, 5, Filters { top_k: 5, ..all }), Ok(Some(3)));
    // The last one found may have equals behind it.
    assert_eq!(choose(&row, 2, Filters { min_p: 1.0, ..all }), Ok(None));
    assert_eq!(choose(&row, 3, Filters { min_p: 1.0, ..all }), Ok(Some(1)));
    // Just as much as is needed: rounding would tell whether there is one more.
    assert_eq!(choose(&[3.0, 3.0], 2, Filters { top_p: 0.5, ..all }), Ok(None));
    assert_eq!(choose(&[3.0, 3.0], 2, Filters { top_p: 0.51, ..all }), Ok(Some(1)));
    // What one filter leaves open does not matter where another keeps fewer.
    let both = Filters { top_p: 0.999, min_p: 0.9, ..all };
    assert_eq!(choose(&row, 3, both), Ok(Some(1)));
    assert!(!Filters { top_k: 257, ..all }.may_keep_few() && !all.may_keep_few());
}

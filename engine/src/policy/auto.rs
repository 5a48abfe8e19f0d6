//! `auto`: boundary rows, and the rows the tail attends to most, as many as this composition needs.
//!
//! Of all rows of fragments, those of the first saw exactly what stands before them; the others did
//! not. `auto` computes again the first rows of every later fragment, where encoding alone shows
//! most, and then those later rows that the tail attends to most over rows as they are cached
//! (as `query` does, but never in the first fragment, where there is nothing to mend), until so
//! much of the attention that the tail pays to fragments falls on rows that are the first
//! fragment's or computed again as `quality` says. A tail whose attention is concentrated pays for
//! few rows.
//!
//! Never more than a fifth of the rows, the scoring pass included. A tail too long to score within
//! that gets boundary rows alone. `quality` is this share of attention and no promise about
//! answers; 1 is `recompute`. Fragments stay in the caller's order, and nothing is tempered.

use super::{Choice, Form, JoinPolicy, Parameter, Places, Scores};
use std::collections::BTreeSet;

pub(super) const FORM: Form = Form {
    name: "auto",
    parameters: &[Parameter {
        name: "quality",
        expected: "above 0 and at most 1",
        is_whole: false,
        allows: |value| value > 0.0 && value <= 1.0,
    }],
    make: |values| JoinPolicy::Auto { quality: values[0] },
    values: |policy| match *policy {
        JoinPolicy::Auto { quality } => Some(vec![quality]),
        _ => None,
    },
    choice: |_, places| choice(places),
};

/// Share of the rows that may be computed, for scoring and again.
const BUDGET: f64 = 0.2;

/// First rows of each later fragment, where the budget allows.
const HEAD_ROWS: usize = 4;

fn choice(places: &Places) -> Choice {
    let later = places.lengths.len().saturating_sub(1);
    if later == 0 {
        return Choice::Rows([].into());
    }
    let budget = places.share(BUDGET);
    let rows_max = budget.saturating_sub(places.tail);
    if rows_max < 2 * later {
        return Choice::Rows(places.heads(budget / later).collect());
    }
    Choice::Scored { by: Scores::Attention, rows_max, choose }
}

fn choose(policy: &JoinPolicy, places: &Places, scores: &[f64]) -> Vec<u32> {
    let JoinPolicy::Auto { quality } = *policy else { unreachable!("another form") };
    let later = places.lengths.len() - 1;
    let rows_max = places.share(BUDGET) - places.tail;
    let first = places.lengths[0];
    let score = |position: u32| scores[position as usize - places.root];
    let heads = HEAD_ROWS.min(rows_max / (2 * later));
    let mut chosen: BTreeSet<u32> = places.heads(heads).collect();
    let wanted = quality * scores.iter().sum::<f64>();
    let mut held: f64 = scores[..first].iter().sum();
    held += chosen.iter().map(|&position| score(position)).sum::<f64>();
    for position in places.ranked(scores) {
        if held >= wanted || chosen.len() >= rows_max {
            break;
        }
        let is_later = position as usize >= places.root + first;
        if is_later && chosen.insert(position) {
            held += score(position);
        }
    }
    chosen.into_iter().collect()
}

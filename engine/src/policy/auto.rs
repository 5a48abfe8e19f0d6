//! `auto`: the rows that move the tail most are computed again, as many as this composition needs.
//!
//! What a row adds to whoever attends to it is its V, times the attention; `query` counts the
//! attention alone. `auto` scores rows by attention times the squared norm of V, from the tail over
//! rows as they are cached, in all heads and layers. Rows of a clean first fragment saw exactly what
//! stands before them: there is nothing to mend. Of the others it computes the best again, until so
//! much of the whole score falls on rows that are exact or computed again as `quality` says. A tail
//! that few rows move pays for few rows.
//!
//! Where the model is sure of the next token over rows as they are cached, nothing is computed again, and
//! the scoring pass was the tail's prefill.
//!
//! Never more than a fifth of the rows, the scoring pass included. A tail too long to score within
//! that gets the first rows of every fragment, where encoding alone shows most. `quality` is this
//! share of the score and no promise about answers; 1 is `recompute`. Fragments stay in the caller's
//! order, and nothing is tempered, not even where nothing is computed again: the temperature that
//! calibration finds (0.95 for Qwen2.5-Coder-1.5B) brought the first token nearer to concatenation by
//! less than noise, and would cost the tail a second pass.

use super::{Choice, Evidence, Form, JoinPolicy, Parameter, Places, Scores};
use models::Weight;

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

/// Entropy of the next token, in nats over `1 - quality`, below which the model is sure enough of it to
/// leave all rows as they are.
const SURE: f64 = 25.0;

/// Fewer rows for each fragment that is not exact are not worth scoring for.
const ROWS_MIN: usize = 2;

fn choice(places: &Places) -> Choice {
    let later = places.mendable();
    if later == 0 {
        return Choice::Rows([].into());
    }
    let budget = places.share(BUDGET);
    let rows_max = budget.saturating_sub(places.tail);
    if rows_max < ROWS_MIN * later {
        return Choice::Rows(places.heads(budget / later).collect());
    }
    Choice::Scored { by: Scores::Tail(Weight::Influence), rows_max, choose }
}

fn choose(policy: &JoinPolicy, places: &Places, by: &Evidence) -> Vec<u32> {
    let JoinPolicy::Auto { quality } = *policy else { unreachable!("another form") };
    let Evidence { scores, entropy } = by;
    if *entropy < SURE * (1.0 - quality) {
        return Vec::new();
    }
    let rows_max = places.share(BUDGET) - places.tail;
    let wanted = quality * scores.iter().sum::<f64>();
    let mut held: f64 = scores[..places.exact].iter().sum();
    let mut chosen = Vec::new();
    for position in places.ranked(scores) {
        if held >= wanted || chosen.len() >= rows_max {
            break;
        }
        let row = position as usize - places.root;
        if row >= places.exact {
            chosen.push(position);
            held += scores[row];
        }
    }
    chosen.sort_unstable();
    chosen
}

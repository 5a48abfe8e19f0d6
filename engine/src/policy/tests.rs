//! Policies as texts: read, printed, and refused.

use super::*;
use models::Weight;

#[test]
fn texts_come_back_as_they_were() {
    let texts = [
        ("recompute", JoinPolicy::Recompute),
        ("reuse", JoinPolicy::Reuse),
        ("parallel:0.9,0.8", JoinPolicy::Parallel { temperature: 0.9, scale: 0.8 }),
        ("boundary:16", JoinPolicy::Boundary { tokens: 16 }),
        ("deviation:0.15", JoinPolicy::Deviation { ratio: 0.15 }),
        ("query:1", JoinPolicy::Query { ratio: 1.0 }),
        ("auto:0.98", JoinPolicy::Auto { quality: 0.98 }),
    ];
    assert_eq!(texts.len(), JoinPolicy::FORMS.len(), "every form is read here");
    for (text, policy) in texts {
        assert_eq!(text.parse(), Ok(policy));
        assert_eq!(policy.to_string(), text);
        assert_eq!(policy.check(), Ok(()));
    }
}

#[test]
fn refusals_name_limit_and_value() {
    let refused = |text: &str, words: &[&str]| {
        let error = text.parse::<JoinPolicy>().expect_err(text).to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
    };
    refused("blend", &["\"blend\"", "boundary:TOKENS", "parallel:TEMPERATURE,SCALE", "reuse"]);
    refused("", &["\"\""]);
    refused("boundary", &["`tokens`", "from 1"]);
    refused("boundary:0", &["tokens is 0", "from 1 to 4294967295"]);
    refused("boundary:1.5", &["tokens is 1.5", "whole"]);
    refused("boundary:many", &["tokens is \"many\"", "whole"]);
    refused("boundary:1,2", &["takes 1", "2 are given"]);
    refused("parallel:0.9", &["`scale`", "from 0.1 to 10"]);
    refused("parallel:0.05,1", &["temperature is 0.05", "from 0.1 to 10"]);
    refused("parallel:1,11", &["scale is 11", "from 0.1 to 10"]);
    refused("deviation:0", &["ratio is 0", "above 0 and at most 1"]);
    refused("query:1.01", &["ratio is 1.01", "above 0 and at most 1"]);
    refused("query:NaN", &["ratio is NaN", "above 0 and at most 1"]);
    refused("auto:2", &["quality is 2", "above 0 and at most 1"]);
    refused("reuse:1", &["takes 0", "1 are given"]);
}

#[test]
fn parameters_are_taken_by_name() {
    let value = |name: &str| (name == "scale").then_some(0.5).or(Some(0.9));
    let policy = JoinPolicy::new("parallel", value);
    assert_eq!(policy, Ok(JoinPolicy::Parallel { temperature: 0.9, scale: 0.5 }));
    let missing = JoinPolicy::new("query", |_| None);
    assert!(matches!(missing, Err(PolicyError::Missing { name: "ratio", .. })), "{missing:?}");
}

/// What `auto` chooses of three fragments of 100 rows, after a root of 5, under a tail of 10.
fn auto(quality: f64, scores: &[f64]) -> Vec<u32> {
    auto_of(quality, scores, 9.0)
}

/// The same where the next token is so open.
fn auto_of(quality: f64, scores: &[f64], entropy: f64) -> Vec<u32> {
    let places = Places { root: 5, lengths: vec![100; 3], exact: 100, tail: 10 };
    let policy = JoinPolicy::Auto { quality };
    match policy.choice(&places) {
        Choice::Scored { by: Scores::Tail(Weight::Influence), rows_max: 50, choose } => {
            choose(&policy, &places, &Evidence { scores: scores.to_vec(), entropy })
        }
        other => panic!("a fifth of 300 rows, less the tail's: {other:?}"),
    }
}

#[test]
fn auto_pays_for_few_rows_where_few_move_the_tail() {
    // Nothing but the first fragment moves it, where there is nothing to mend.
    let mut scores = vec![0.0; 300];
    scores[..100].fill(1.0);
    assert_eq!(auto(0.9, &scores), Vec::<u32>::new());
    // Two rows of the last hold as much as the first fragment.
    scores[250] = 60.0;
    scores[260] = 40.0;
    assert_eq!(auto(0.5, &scores), Vec::<u32>::new());
    assert_eq!(auto(0.75, &scores), [255]);
    assert_eq!(auto(0.9, &scores), [255, 265]);
    // Spread evenly, it costs all that is allowed; the earlier rows of equals.
    let spread = auto(0.9, &[1.0; 300]);
    assert_eq!(spread.len(), 50);
    assert_eq!(spread, (105..155).collect::<Vec<u32>>());
}

#[test]
fn auto_leaves_all_as_it_is_where_the_model_is_sure() {
    assert_eq!(auto_of(0.98, &[1.0; 300], 0.49), Vec::<u32>::new());
    assert_eq!(auto_of(0.98, &[1.0; 300], 0.51).len(), 50);
    assert_eq!(auto_of(0.99, &[1.0; 300], 0.49).len(), 50, "more is asked for");
}

#[test]
fn auto_scores_nothing_where_scoring_costs_too_much() {
    let policy = JoinPolicy::Auto { quality: 0.9 };
    let rows = |lengths: &[usize], tail| match policy.choice(&Places {
        root: 5,
        lengths: lengths.to_vec(),
        exact: lengths[0],
        tail,
    }) {
        Choice::Rows(rows) => rows.to_vec(),
        Choice::Scored { .. } => panic!("no scores for a tail of {tail}"),
    };
    assert_eq!(rows(&[100], 10), Vec::<u32>::new(), "one fragment is exact as it is");
    let boundary: Vec<u32> = (105..135).chain(205..235).collect();
    assert_eq!(rows(&[100; 3], 57), boundary, "a fifth of 300 rows, in equal parts");
}

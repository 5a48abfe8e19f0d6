//! Policies as texts: read, printed, and refused.

use super::*;

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

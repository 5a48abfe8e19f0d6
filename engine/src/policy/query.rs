//! `query`: the rows that the tail attends to most are computed again (ProphetKV).

use super::{Choice, Form, JoinPolicy, Parameter, Places, Scores};
use models::Weight;

pub(super) const FORM: Form = Form {
    name: "query",
    parameters: &[Parameter {
        name: "ratio",
        expected: "above 0 and at most 1",
        is_whole: false,
        allows: |value| value > 0.0 && value <= 1.0,
    }],
    make: |values| JoinPolicy::Query { ratio: values[0] },
    values: |policy| match *policy {
        JoinPolicy::Query { ratio } => Some(vec![ratio]),
        _ => None,
    },
    choice: |policy, places| Choice::Scored {
        by: Scores::Tail(Weight::Attention),
        rows_max: rows(policy, places),
        choose: |policy, places, by| places.best(&by.scores, rows(policy, places)),
    },
};

fn rows(policy: &JoinPolicy, places: &Places) -> usize {
    match *policy {
        JoinPolicy::Query { ratio } => places.share(ratio),
        _ => unreachable!("another form"),
    }
}

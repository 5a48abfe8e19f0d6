//! `query`: the rows that the tail attends to most are computed again (ProphetKV).

use super::{Form, JoinPolicy, Parameter};

pub(super) const FORM: Form = Form {
    name: "query",
    parameters: &[Parameter {
        name: "ratio",
        expected: "above 0 and at most 1",
        is_whole: false,
        allows: |value| value > 0.0 && value <= 1.0,
    }],
    is_built: false,
    make: |values| JoinPolicy::Query { ratio: values[0] },
    values: |policy| match *policy {
        JoinPolicy::Query { ratio } => Some(vec![ratio]),
        _ => None,
    },
};

//! `auto`: rows are chosen by what this composition shows, to a stated quality.

use super::{Form, JoinPolicy, Parameter};

pub(super) const FORM: Form = Form {
    name: "auto",
    parameters: &[Parameter {
        name: "quality",
        expected: "above 0 and at most 1",
        is_whole: false,
        allows: |value| value > 0.0 && value <= 1.0,
    }],
    is_built: false,
    make: |values| JoinPolicy::Auto { quality: values[0] },
    values: |policy| match *policy {
        JoinPolicy::Auto { quality } => Some(vec![quality]),
        _ => None,
    },
};

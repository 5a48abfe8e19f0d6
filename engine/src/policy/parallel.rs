//! `parallel`: adaptive parallel encoding (APE, Yang et al. 2025, arXiv:2502.05431).

use super::{Form, JoinPolicy, Parameter};

pub(super) const FORM: Form = Form {
    name: "parallel",
    parameters: &[
        Parameter {
            name: "temperature",
            expected: "from 0.1 to 10",
            is_whole: false,
            allows: |value| (0.1..=10.0).contains(&value),
        },
        Parameter {
            name: "scale",
            expected: "from 0.1 to 10",
            is_whole: false,
            allows: |value| (0.1..=10.0).contains(&value),
        },
    ],
    is_built: false,
    make: |values| JoinPolicy::Parallel { temperature: values[0], scale: values[1] },
    values: |policy| match *policy {
        JoinPolicy::Parallel { temperature, scale } => Some(vec![temperature, scale]),
        _ => None,
    },
};

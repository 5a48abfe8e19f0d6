//! `deviation`: the rows whose V deviates most at layer 1 are computed again (CacheBlend, Yao et al.
//! 2025, arXiv:2405.16444), under a mask by positions.

use super::{Form, JoinPolicy, Parameter};

pub(super) const FORM: Form = Form {
    name: "deviation",
    parameters: &[Parameter {
        name: "ratio",
        expected: "above 0 and at most 1",
        is_whole: false,
        allows: |value| value > 0.0 && value <= 1.0,
    }],
    is_built: false,
    make: |values| JoinPolicy::Deviation { ratio: values[0] },
    values: |policy| match *policy {
        JoinPolicy::Deviation { ratio } => Some(vec![ratio]),
        _ => None,
    },
};

//! `deviation`: the rows whose V deviates most at layer 1 are computed again (CacheBlend, Yao et al.
//! 2025, arXiv:2405.16444), under a mask by positions.

use super::{Choice, Form, JoinPolicy, Parameter, Places, Scores};

pub(super) const FORM: Form = Form {
    name: "deviation",
    parameters: &[Parameter {
        name: "ratio",
        expected: "above 0 and at most 1",
        is_whole: false,
        allows: |value| value > 0.0 && value <= 1.0,
    }],
    make: |values| JoinPolicy::Deviation { ratio: values[0] },
    values: |policy| match *policy {
        JoinPolicy::Deviation { ratio } => Some(vec![ratio]),
        _ => None,
    },
    choice: |policy, places| Choice::Scored {
        by: Scores::Deviation,
        rows_max: rows(policy, places),
        choose: |policy, places, by| places.best(&by.scores, rows(policy, places)),
    },
};

fn rows(policy: &JoinPolicy, places: &Places) -> usize {
    match *policy {
        JoinPolicy::Deviation { ratio } => places.share(ratio),
        _ => unreachable!("another form"),
    }
}

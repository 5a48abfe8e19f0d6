//! `boundary`: the first rows of every fragment but the first are computed again (LegoLink of EPIC,
//! Hu et al. 2025, arXiv:2410.15332): encoded alone, they took themselves for a beginning.

use super::{Form, JoinPolicy, Parameter};

pub(super) const FORM: Form = Form {
    name: "boundary",
    parameters: &[Parameter {
        name: "tokens",
        expected: "a whole number from 1 to 4294967295",
        is_whole: true,
        allows: |value| (1.0..=f64::from(u32::MAX)).contains(&value),
    }],
    is_built: false,
    make: |values| JoinPolicy::Boundary { tokens: values[0] as usize },
    values: |policy| match *policy {
        JoinPolicy::Boundary { tokens } => Some(vec![tokens as f64]),
        _ => None,
    },
};

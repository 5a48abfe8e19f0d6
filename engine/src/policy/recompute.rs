//! `recompute`: plain concatenation, which every other policy is compared with.

use super::{Form, JoinPolicy};

pub(super) const FORM: Form = Form {
    name: "recompute",
    parameters: &[],
    is_built: true,
    make: |_| JoinPolicy::Recompute,
    values: |policy| (*policy == JoinPolicy::Recompute).then(Vec::new),
};

//! `reuse`: nothing is computed again; fragments follow each other.

use super::{Form, JoinPolicy};

pub(super) const FORM: Form = Form {
    name: "reuse",
    parameters: &[],
    make: |_| JoinPolicy::Reuse,
    values: |policy| (*policy == JoinPolicy::Reuse).then(Vec::new),
    choice: super::nothing,
};

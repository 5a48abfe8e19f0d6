//! `reuse`: nothing is computed again; fragments follow each other.

use super::{Form, JoinPolicy};

pub(super) const FORM: Form = Form {
    name: "reuse",
    parameters: &[],
    is_built: true,
    make: |_| JoinPolicy::Reuse,
    values: |policy| (*policy == JoinPolicy::Reuse).then(Vec::new),
};

//! What a sealed record saw, as fields of its file's header. A clean record has none of them.
//!
//! Each value is written in one way: what is read must be what would be written.

use super::{Flaw, TOKENS_MAX, check_limit, field};
use crate::Sealed;
use safetensors::tensor::Metadata;
use std::{fmt::Display, str::FromStr, sync::Arc};

/// Names and values.
pub(super) fn fields(sealed: &Sealed) -> [(&'static str, String); 4] {
    let Sealed { saw, policy, selected, start } = sealed;
    let values = [list(saw), policy.to_string(), list(selected), start.to_string()];
    let mut values = values.into_iter();
    NAMES.map(|name| (name, values.next().expect("a value for each name")))
}

/// Nothing, of a clean record.
pub(super) fn read(metadata: &Metadata) -> Result<Option<Arc<Sealed>>, Flaw> {
    let [saw, policy, selected, start] = NAMES.map(|name| field(metadata, name));
    if [saw, policy, selected, start].iter().all(|value| value.is_empty()) {
        return Ok(None);
    }
    let saw = saw.split(',').map(|id| one("saw", id, "ids of fragments"));
    let positions = selected.split(',').filter(|_| !selected.is_empty());
    let positions = positions.map(|text| one("selected", text, "positions"));
    let sealed = Sealed {
        saw: saw.collect::<Result<_, _>>()?,
        policy: one("policy", policy, "a join policy")?,
        selected: positions.collect::<Result<_, _>>()?,
        start: one("start", start, "a position")?,
    };
    check_limit("start", sealed.start.into(), TOKENS_MAX)?;
    Ok(Some(Arc::new(sealed)))
}

fn list(items: &[impl Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn one<T: FromStr + Display>(what: &'static str, text: &str, expected: &str) -> Result<T, Flaw> {
    let read = text.parse().ok().filter(|read: &T| read.to_string() == text);
    read.ok_or_else(|| {
        let shown: String = text.chars().take(SHOWN_MAX).collect();
        Flaw::Other { what, given: format!("{shown:?}"), expected: expected.to_owned() }
    })
}

const NAMES: [&str; 4] = ["saw", "policy", "selected", "start"];
/// Characters of a value that a message shows.
const SHOWN_MAX: usize = 80;

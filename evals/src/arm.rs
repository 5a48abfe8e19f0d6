//! Arms: what is compared on the same token ids, each with `recompute`: ways to join, over KV in some
//! number format.

use crate::prompt::Prompt;
use anyhow::anyhow;
use engine::JoinPolicy;
use models::{KvDtype, TokenId};
use std::{fmt, str::FromStr, sync::Arc};

/// One way to join, over KV in one format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arm {
    pub(crate) way: Way,
    pub(crate) kv: KvDtype,
}

/// One way to join.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    /// A policy, after the item's root.
    Policy(JoinPolicy),
    /// `reuse` of fragments that were encoded with no root at all; the root's tokens are placed
    /// first, as one more such fragment. Shows what a shared root is worth.
    NoRoot,
    /// `recompute` in another chunking: how far the same computation moves by itself.
    Rechunked,
}

/// Format of KV where an arm names none.
pub(crate) const KV: KvDtype = KvDtype::F16;

const NO_ROOT: &str = "reuse-no-root";
const RECHUNKED: &str = "recompute-rechunked";

/// What an arm puts before the model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Joined {
    pub(crate) kv: KvDtype,
    pub(crate) policy: JoinPolicy,
    pub(crate) root: Arc<[TokenId]>,
    pub(crate) placements: Vec<Arc<[TokenId]>>,
}

impl Arm {
    /// The oracle.
    pub(crate) const RECOMPUTE: Self = Self::of(Way::Policy(JoinPolicy::Recompute));

    /// Over KV as it is kept where nothing else is asked for.
    pub(crate) const fn of(way: Way) -> Self {
        Self { way, kv: KV }
    }

    /// The arms asked for, each once, `recompute` first whether it was asked for or not.
    pub(crate) fn paired(asked: &[Self]) -> Vec<Self> {
        let mut arms = vec![Self::RECOMPUTE];
        for &arm in asked {
            if !arms.contains(&arm) {
                arms.push(arm);
            }
        }
        arms
    }

    /// Root and fragments as this arm encodes them; their tokens in order are those of any arm.
    pub(crate) fn joined(self, prompt: &Prompt) -> Joined {
        let (root, placements) = (prompt.root.clone(), prompt.placements.clone());
        let kv = self.kv;
        match self.way {
            Way::Policy(policy) => Joined { kv, policy, root, placements },
            Way::Rechunked => Joined { kv, policy: JoinPolicy::Recompute, root, placements },
            Way::NoRoot => {
                let placements = std::iter::once(root).chain(placements).collect();
                Joined { kv, policy: JoinPolicy::Reuse, root: Arc::from([]), placements }
            }
        }
    }

    /// It looks at fragments that were encoded before, and should find them cached.
    pub(crate) fn reuses(self) -> bool {
        !matches!(self.way, Way::Rechunked | Way::Policy(JoinPolicy::Recompute))
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.way.fmt(f)?;
        if self.kv == KV { Ok(()) } else { write!(f, "@{}", self.kv) }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(policy) => policy.fmt(f),
            Self::NoRoot => f.write_str(NO_ROOT),
            Self::Rechunked => f.write_str(RECHUNKED),
        }
    }
}

impl FromStr for Arm {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, anyhow::Error> {
        let (way, kv) = match text.split_once('@') {
            None => (text, KV),
            Some((way, kv)) => (way, kv.parse()?),
        };
        Ok(Self { way: way.parse()?, kv })
    }
}

impl FromStr for Way {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, anyhow::Error> {
        match text {
            NO_ROOT => Ok(Self::NoRoot),
            RECHUNKED => Ok(Self::Rechunked),
            _ => text
                .parse()
                .map(Self::Policy)
                .map_err(|error| anyhow!("{error} (and {NO_ROOT}, {RECHUNKED})")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arm, Way};
    use crate::prompt::Prompt;
    use engine::JoinPolicy;

    #[test]
    fn arms_are_read_and_written() {
        for text in ["recompute", "reuse", "boundary:16", "parallel:0.9,0.9", "reuse@int8"] {
            assert_eq!(text.parse::<Arm>().unwrap().to_string(), text);
        }
        let error = "boundary:-1".parse::<Arm>().unwrap_err().to_string();
        assert!(error.contains("-1"), "{error}");
        let error = "reuse@int9".parse::<Arm>().unwrap_err().to_string();
        assert!(error.contains("int9") && error.contains("bf16"), "{error}");
        let error = "reused".parse::<Arm>().unwrap_err().to_string();
        assert!(error.contains("reused") && error.contains("reuse-no-root"), "{error}");
    }

    #[test]
    fn recompute_is_always_the_first_and_none_comes_twice() {
        let reuse = Arm::of(Way::Policy(JoinPolicy::Reuse));
        assert_eq!(Arm::paired(&[reuse, Arm::RECOMPUTE, reuse]), [Arm::RECOMPUTE, reuse]);
    }

    #[test]
    fn every_arm_shows_the_same_tokens() {
        let prompt = Prompt {
            root: [1, 2].into(),
            placements: vec![[3].into(), [4, 5].into()],
            tail: vec![6],
            gold: vec![7],
        };
        for arm in ["recompute", "reuse", "reuse-no-root", "recompute-rechunked"] {
            let joined = arm.parse::<Arm>().unwrap().joined(&prompt);
            let placed = joined.placements.iter().flat_map(|tokens| tokens.iter());
            let tokens: Vec<_> = joined.root.iter().chain(placed).copied().collect();
            assert_eq!(tokens, [1, 2, 3, 4, 5], "{arm}");
        }
    }
}

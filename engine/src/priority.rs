//! How urgent a call is to its tenant.

/// How urgent a call is, among those of its tenant: tenants take turns whatever they say of their
/// own.
///
/// A more urgent call gets a place before a less urgent one that waits, takes its place where all are
/// taken (what it held is computed again later: nothing is lost), and its rows come first in every
/// step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Work that nobody waits for: beside decodes it gets a few rows of a step only.
    Low,
    /// As calls are.
    #[default]
    Normal,
    /// Somebody waits at a screen.
    High,
}

impl Priority {
    /// All, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];
}

//! What went wrong with a store: counted, remembered for whoever asks, and logged without flooding.
//!
//! A full disk fails every write: failures of one kind are logged once until a write succeeds.

use crate::tier::Figures;
use std::{collections::BTreeSet, fmt::Display, io};

/// The troubles of a store.
pub(crate) struct Troubles {
    /// Whose: "disk".
    tier: &'static str,
    /// Only what counts troubles is used.
    counted: Figures,
    logged: BTreeSet<(&'static str, io::ErrorKind)>,
    /// The latest, for tests to read.
    #[cfg(test)]
    pub(crate) last: Option<String>,
}

impl Troubles {
    /// None yet.
    pub(crate) fn of(tier: &'static str) -> Self {
        Self {
            tier,
            counted: Figures::default(),
            logged: BTreeSet::new(),
            #[cfg(test)]
            last: None,
        }
    }

    /// Something could not be read.
    pub(crate) fn read_failed(&mut self, what: impl Display, error: &io::Error) {
        self.counted.read_errors += 1;
        self.failed("read", what, error);
    }

    /// Something else could not be done.
    pub(crate) fn write_failed(
        &mut self,
        deed: &'static str,
        what: impl Display,
        error: &io::Error,
    ) {
        self.counted.write_errors += 1;
        self.failed(deed, what, error);
    }

    /// Something was not even tried.
    pub(crate) fn not_tried(&mut self) {
        self.counted.write_errors += 1;
    }

    fn failed(&mut self, deed: &'static str, what: impl Display, error: &io::Error) {
        let text = format!("cannot {deed} {what}: {error}");
        if self.is_news(deed, error.kind()) {
            tracing::warn!("{} tier: {text}", self.tier);
        }
        #[cfg(test)]
        {
            self.last = Some(text);
        }
    }

    /// A file is not what it should be.
    pub(crate) fn set_aside(&mut self, name: &str, why: &str) {
        let text = format!("{name} is set aside: {why}");
        tracing::warn!("{} tier: {text}", self.tier);
        self.counted.set_aside += 1;
        #[cfg(test)]
        {
            self.last = Some(text);
        }
    }

    /// The store works again.
    pub(crate) fn succeeded(&mut self) {
        self.logged.clear();
    }

    /// Whether a failure is of a kind that was not logged yet.
    pub(crate) fn is_news(&mut self, deed: &'static str, kind: io::ErrorKind) -> bool {
        self.logged.insert((deed, kind))
    }

    /// Figures that count troubles; the others are nought.
    pub(crate) fn figures(&self) -> Figures {
        self.counted
    }
}

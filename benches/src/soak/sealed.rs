//! Answers that a client sealed: the few fragments of them that it keeps to place them again.

use super::{client::Client, texts::Random};
use std::collections::VecDeque;

/// Sealed fragments that a client keeps.
const SEALED_MAX: usize = 2;

/// Ids of sealed fragments, each once, the oldest first.
#[derive(Default)]
pub(crate) struct Kept(VecDeque<String>);

impl Kept {
    /// Keeps one more; whichever there is no room for any more is returned.
    fn keep(&mut self, id: String) -> Option<String> {
        // The same answer to the same composition is the same fragment.
        self.forget(&id);
        self.0.push_back(id);
        if self.0.len() > SEALED_MAX { self.0.pop_front() } else { None }
    }

    /// The server has it no more.
    pub(crate) fn forget(&mut self, id: &str) {
        self.0.retain(|kept| kept != id);
    }

    /// One of them.
    pub(crate) fn draw(&self, random: &mut Random) -> Option<String> {
        if self.0.is_empty() { None } else { self.0.get(random.below(self.0.len())).cloned() }
    }
}

impl Client {
    pub(crate) async fn keep_sealed(&mut self, id: String) {
        if let Some(id) = self.sealed.keep(id) {
            self.drop_one(&id).await;
        }
    }

    /// Drops all that it keeps.
    pub(crate) async fn drop_sealed(&mut self) {
        while let Some(id) = self.sealed.0.pop_front() {
            self.drop_one(&id).await;
        }
    }

    async fn drop_one(&self, id: &str) {
        let path = format!("/v1/fragments/{id}");
        // It may be forgotten, dropped by another client that sealed the same, or still held.
        self.call("drop", "DELETE", &path, None, &[404, 409]).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_kept_and_each_once() {
        let mut kept = Kept::default();
        assert_eq!(kept.draw(&mut Random::new(0, 0)), None);
        for (id, goes) in
            [("a", None), ("b", None), ("a", None), ("c", Some("b")), ("d", Some("a"))]
        {
            assert_eq!(kept.keep(id.to_owned()).as_deref(), goes, "{id}");
        }
        kept.forget("c");
        assert_eq!(kept.draw(&mut Random::new(0, 0)).as_deref(), Some("d"));
    }
}

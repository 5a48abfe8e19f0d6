//! The plans of the batch at hand: what its layers have in common is planned once.

use super::AttentionShape;
use super::plan::{Call, Plan};

/// A plan for each shape of the layers that looked at the last batch. Their memory is used again.
#[derive(Debug, Default)]
pub(super) struct Plans(Vec<(Option<Key>, Plan)>);

/// All that a plan depends on, the batch by its number.
type Key = (u64, AttentionShape, [usize; 2], bool);

impl Plans {
    /// The plan of `call`, made unless it is at hand.
    pub(super) fn of(&mut self, call: Call<'_>) -> &Plan {
        let Call { looks, shape, page_rows, threads, shares } = call;
        let key = (looks.number, shape, [page_rows, threads], shares);
        let at = self.0.iter().position(|(made_for, _)| *made_for == Some(key));
        let at = at.unwrap_or_else(|| self.make(key, &call));
        &self.0[at].1
    }

    /// Makes a plan in the place of another batch's, and says which.
    fn make(&mut self, key: Key, call: &Call<'_>) -> usize {
        let of_another = |made_for: &Option<Key>| made_for.is_none_or(|other| other.0 != key.0);
        let at = self.0.iter().position(|(made_for, _)| of_another(made_for));
        let at = at.unwrap_or(self.0.len());
        if at == self.0.len() {
            self.0.push(Default::default());
        }
        let (made_for, plan) = &mut self.0[at];
        *made_for = None;
        plan.make(call);
        *made_for = Some(key);
        at
    }
}

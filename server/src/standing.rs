//! What stands in a generation's composition before its tail: at first, and after swaps.

use crate::{AppState, Binding, Generation, Swapped, live, side::SideContext};
use engine::{FragmentId, Placement};
use models::TokenId;
use std::{sync::Arc, time::Duration};

/// A fragment that stood in a generation's composition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentUse {
    /// Its id under this composition's root; another than the one asked for with `other_root`.
    pub id: FragmentId,
    /// The client's name for it.
    pub name: Option<String>,
    /// Its length in tokens.
    pub tokens: usize,
    /// It was encoded after another root, so this composition used its tokens, not its KV.
    pub other_root: bool,
    /// The side context that it is a piece of.
    pub side: Option<SideUse>,
}

/// A side context as it stood in a generation's composition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideUse {
    /// `sc_..`.
    pub id: String,
    /// Its version then.
    pub version: u64,
    /// When it had changed to that, since the Unix epoch.
    pub changed: Duration,
}

/// What stands in a composition between root and tail.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) placements: Vec<Placement>,
    /// What each of them is.
    pub(crate) fragments: Vec<FragmentUse>,
    /// Those of them that follow a side context.
    pub(crate) bindings: Vec<Binding>,
}

impl Standing {
    /// What stood in a generation's composition after these of its swaps, the first ones in order.
    pub(crate) fn after<'a>(
        generation: &Generation,
        swaps: impl Iterator<Item = &'a Swapped>,
    ) -> Self {
        let mut standing = Self {
            placements: generation.request().composition.placements.clone(),
            fragments: generation.fragments.clone(),
            bindings: generation.bindings.clone(),
        };
        for Swapped { side, version, range, placed, .. } in swaps {
            let (placements, fragments): (Vec<_>, Vec<_>) = placed.iter().cloned().unzip();
            live::rebind(&mut standing.bindings, (side, *version), placed.len());
            standing.placements.splice(range.clone(), placements);
            standing.fragments.splice(range.clone(), fragments);
        }
        standing
    }
}

/// The pieces of a side context as they stand after a root.
pub(crate) fn placed_pieces(
    state: &AppState,
    tenant: &Arc<str>,
    root: &[TokenId],
    context: &SideContext,
) -> Vec<(Placement, FragmentUse)> {
    let SideContext { id, version, changed, .. } = context;
    let side = SideUse { id: id.clone(), version: *version, changed: *changed };
    let pieces = context.placed().map(|piece| {
        let placed = Placement::from(Arc::clone(&piece.tokens));
        let used = FragmentUse {
            id: state.engine.placement_id(tenant, root, &placed),
            name: context.name.clone(),
            tokens: piece.tokens.len(),
            other_root: false,
            side: Some(side.clone()),
        };
        (placed, used)
    });
    pieces.collect()
}

//! Overlays: rows that a policy had computed again for one composition, private to it.
//!
//! An overlay's rows stand at the positions of the rows they replace, which the shared pages keep
//! and the composition hides. What an overlay holds depends on the fragments in order and on which
//! rows it replaces, and on nothing else: compositions that agree in both share it. It comes of an
//! approximate join, so it is never found by a fragment's identity nor as a prefix (invariant 5).
//! A fragment that is forgotten takes the overlays over it along.

use crate::{FragmentId, fragments::Content};
use kernels::{HiddenRows, PageId};
use models::TokenId;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Identity of an overlay; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct OverlayId(u64);

/// What an overlay is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OverlayKey {
    /// The root; of one tenant.
    root: FragmentId,
    placements: Vec<FragmentId>,
    /// Sequential positions of the rows, ascending; not empty.
    selected: Arc<[u32]>,
}

/// Rows computed again.
pub(crate) struct Overlay {
    key: OverlayKey,
    pub(crate) tokens: Vec<TokenId>,
    /// Rows of each placement that it replaces; none where it replaces none.
    pub(crate) hidden: Vec<Option<HiddenRows>>,
    pub(crate) pages: Vec<PageId>,
    /// Rows computed so far.
    pub(crate) rows: usize,
    /// Running sequences that look at it.
    pub(crate) users: usize,
    /// Moment of the latest use, by the state's counter.
    pub(crate) used_at: u64,
}

/// All overlays.
#[derive(Default)]
pub(crate) struct Overlays {
    entries: BTreeMap<OverlayId, Overlay>,
    index: HashMap<OverlayKey, OverlayId>,
    next: u64,
}

impl OverlayKey {
    /// The overlay that replaces `selected` over these records.
    pub(crate) fn new(root: &Content, placements: &[Content], selected: &Arc<[u32]>) -> Self {
        assert!(!selected.is_empty(), "an overlay has rows");
        let placements = placements.iter().map(|placement| placement.id).collect();
        Self { root: root.id, placements, selected: selected.clone() }
    }
}

impl Overlay {
    /// Rows of `key` over these records, in pages that are whole: nothing is computed yet.
    fn new(key: OverlayKey, (root, placements): (&Content, &[Content]), page_rows: usize) -> Self {
        let mut tokens = Vec::new();
        let mut selected = key.selected.iter().map(|&position| position as usize).peekable();
        let mut start = root.tokens.len();
        let hidden = placements.iter().map(|placement| {
            let end = start + placement.tokens.len();
            let mut hidden = None;
            while let Some(position) = selected.next_if(|&position| position < end) {
                let row = position - start;
                tokens.push(placement.tokens[row]);
                let none = || HiddenRows::none(placement.tokens.len(), page_rows);
                hidden.get_or_insert_with(none).hide(row);
            }
            start = end;
            hidden
        });
        let hidden = hidden.collect();
        assert!(selected.next().is_none(), "rows of placements");
        Self { key, tokens, hidden, pages: Vec::new(), rows: 0, users: 0, used_at: 0 }
    }

    /// Sequential positions of its rows.
    pub(crate) fn positions(&self) -> &[u32] {
        &self.key.selected
    }

    /// Every row is computed.
    pub(crate) fn is_whole(&self) -> bool {
        self.rows == self.tokens.len()
    }
}

impl Overlays {
    /// The overlay of `key`, whole or not.
    pub(crate) fn find(&self, key: &OverlayKey) -> Option<OverlayId> {
        self.index.get(key).copied()
    }

    pub(crate) fn contains(&self, id: OverlayId) -> bool {
        self.entries.contains_key(&id)
    }

    pub(crate) fn held(&self, id: OverlayId) -> &Overlay {
        self.entries.get(&id).expect("an overlay in use is never forgotten")
    }

    pub(crate) fn held_mut(&mut self, id: OverlayId) -> &mut Overlay {
        self.entries.get_mut(&id).expect("an overlay in use is never forgotten")
    }

    /// Enters an overlay that is not known, in `pages`.
    pub(crate) fn enter(
        &mut self,
        key: OverlayKey,
        over: (&Content, &[Content]),
        pages: Vec<PageId>,
        page_rows: usize,
    ) -> OverlayId {
        let id = OverlayId(self.next);
        self.next += 1;
        let known = self.index.insert(key.clone(), id);
        assert!(known.is_none(), "an overlay is entered once");
        self.entries.insert(id, Overlay { pages, ..Overlay::new(key, over, page_rows) });
        id
    }

    /// Removes an overlay and returns its pages, the caller's to release.
    pub(crate) fn remove(&mut self, id: OverlayId) -> Vec<PageId> {
        let overlay = self.entries.remove(&id).expect("a removed overlay exists");
        assert_eq!(overlay.users, 0, "an overlay is removed while in use");
        self.index.remove(&overlay.key);
        overlay.pages
    }

    /// Overlays over a fragment or after a root.
    pub(crate) fn over(&self, id: FragmentId) -> Vec<OverlayId> {
        let is_over = |key: &OverlayKey| key.root == id || key.placements.contains(&id);
        self.iter().filter(|(_, overlay)| is_over(&overlay.key)).map(|(id, _)| id).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (OverlayId, &Overlay)> {
        self.entries.iter().map(|(&id, overlay)| (id, overlay))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Panics unless overlays and index are one to one, and pages and rows agree.
    pub(crate) fn check_integrity(&self, page_rows: usize) {
        assert_eq!(self.entries.len(), self.index.len(), "every overlay is indexed once");
        for (id, overlay) in self.iter() {
            assert_eq!(self.index.get(&overlay.key), Some(&id), "an overlay is found by its key");
            let rows = overlay.tokens.len();
            assert_eq!(rows, overlay.positions().len(), "{id:?}: a token for each row");
            assert_eq!(overlay.pages.len(), rows.div_ceil(page_rows), "{id:?}: whole pages");
            assert!(overlay.is_whole() || overlay.users > 0, "{id:?}: unfinished, unused");
        }
    }
}

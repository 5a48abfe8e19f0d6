//! A job: what waits for a place and runs. Either one generation (a sequence) or a fragment to be
//! put; both need records encoded first, so both are admitted, preempted and ended alike.

use crate::{
    Composition, FragmentId, FragmentInfo, FragmentSpec, Placement, Priority, Request,
    RequestError, SequenceId,
    fragments::{Content, Fragments},
    overlays::Overlays,
    policy::Places,
    repair::Repair,
    sequence::{Sequence, Stream},
};
use models::ModelShape;
use std::sync::{Arc, mpsc::Sender};

/// Answers a waiting caller; a dropped one tells it that the engine is down.
pub(crate) type Reply<T> = Sender<Result<T, RequestError>>;

/// One piece of work. Jobs are ordered by age: a smaller id came first.
pub(crate) struct Job {
    pub(crate) id: SequenceId,
    pub(crate) tenant: Arc<str>,
    pub(crate) priority: Priority,
    /// Roots and fragments whose KV must be whole before the job's own work; roots first, each
    /// once.
    pub(crate) needs: Vec<Content>,
    pub(crate) work: Work,
    /// Ends at the next commit.
    pub(crate) cancelled: bool,
    /// A sealed fragment that it needs and cannot have: why it ends.
    pub(crate) lost: Option<FragmentId>,
}

/// What a job is for.
pub(crate) enum Work {
    Put(Put),
    Generate(Box<Sequence>),
}

/// A fragment to be encoded for a waiting caller.
pub(crate) struct Put {
    pub(crate) pin: bool,
    pub(crate) reply: Reply<FragmentInfo>,
}

impl Job {
    pub(crate) fn put(
        id: SequenceId,
        shape: &ModelShape,
        spec: FragmentSpec,
        reply: Reply<FragmentInfo>,
    ) -> Self {
        let root = Content::root(&shape.fingerprint, &spec.tenant, &spec.root);
        let fragment = Content::after(&shape.fingerprint, &root, &spec.tokens);
        Self {
            id,
            tenant: spec.tenant,
            priority: spec.priority,
            needs: vec![root, fragment],
            work: Work::Put(Put { pin: spec.pin, reply }),
            cancelled: false,
            lost: None,
        }
    }

    pub(crate) fn generate(id: SequenceId, tenant: Arc<str>, sequence: Sequence) -> Self {
        let (needs, priority) = (Self::needs_of(&sequence), sequence.request.priority);
        let work = Work::Generate(Box::new(sequence));
        Self { id, tenant, priority, needs, work, cancelled: false, lost: None }
    }

    /// It generates, and so takes a row of every step.
    pub(crate) fn is_sequence(&self) -> bool {
        self.sequence().is_some()
    }

    /// A sequence's root and what it places, each once.
    pub(crate) fn needs_of(sequence: &Sequence) -> Vec<Content> {
        let mut needs: Vec<Content> = Vec::new();
        for content in sequence.root.iter().chain(&sequence.placements) {
            if !needs.iter().any(|need| need.id == content.id) {
                needs.push(content.clone());
            }
        }
        needs
    }

    /// All records the job needs are whole.
    pub(crate) fn is_composed(&self, fragments: &Fragments) -> bool {
        self.needs.iter().all(|need| fragments.held(need.id).is_cached())
    }

    /// All records the job needs are whole, and so is what is computed again.
    pub(crate) fn is_joined(&self, fragments: &Fragments, overlays: &Overlays) -> bool {
        let repair = self.sequence().and_then(|sequence| sequence.repair.as_ref());
        let is_whole = |id| overlays.held(id).is_whole();
        let is_repaired =
            |repair: &Repair| repair.selected.is_some() && repair.overlay.is_none_or(is_whole);
        self.is_composed(fragments) && repair.is_none_or(is_repaired)
    }

    pub(crate) fn sequence(&self) -> Option<&Sequence> {
        match &self.work {
            Work::Put(_) => None,
            Work::Generate(sequence) => Some(sequence),
        }
    }

    pub(crate) fn sequence_mut(&mut self) -> Option<&mut Sequence> {
        match &mut self.work {
            Work::Put(_) => None,
            Work::Generate(sequence) => Some(sequence),
        }
    }

    /// Gives a generation its reader.
    pub(crate) fn listen(&mut self, stream: Stream) {
        self.sequence_mut().expect("only generations are heard").stream = stream;
    }

    /// Sealed fragments that it needs: they are held while it waits, too.
    pub(crate) fn sealed(&self) -> impl Iterator<Item = &Content> {
        self.needs.iter().filter(|need| need.is_sealed())
    }

    /// The fragment that a put is about.
    pub(crate) fn subject(&self) -> &Content {
        self.needs.last().expect("a put needs a root and a fragment")
    }

    /// Pages the job holds at most, when it runs alone to its end.
    pub(crate) fn pages_max(&self, page_rows: usize) -> usize {
        let needs: usize = self.needs.iter().map(|need| need.pages(page_rows)).sum();
        let own = |sequence: &Sequence| {
            let repaired = sequence.repair.as_ref().map_or(0, Repair::rows_max);
            sequence.rows_max().div_ceil(page_rows) + repaired.div_ceil(page_rows)
        };
        needs + self.sequence().map_or(0, own)
    }
}

/// The records a request's composition needs under its policy, and the tokens of the sequence's
/// own run behind them.
pub(crate) struct Joined {
    pub(crate) root: Option<Content>,
    pub(crate) placements: Vec<Content>,
    /// Composed position of the own run's first row.
    pub(crate) own_start: usize,
    /// Own row of the first token of the tail.
    pub(crate) tail_at: usize,
    pub(crate) own: Vec<models::TokenId>,
    /// What is computed again; none where nothing comes of fragments.
    pub(crate) repair: Option<Repair>,
}

impl Joined {
    /// ```text
    /// recompute:  | own run: root, placements, tail, answer ...            |
    /// others:     | root's run | fragment's run | ... | own run: tail, answer ... |
    /// ```
    /// Under `recompute` the own run is one contiguous run from position 0, whatever was cached:
    /// its partial attention states are cut as those of a plain prefill are, so the bits are too.
    pub(crate) fn new(shape: &ModelShape, request: &Request) -> Self {
        let Composition { root, placements, tail } = &request.composition;
        let before = root.len() + placements.iter().map(|p| p.tokens.len()).sum::<usize>();
        if request.policy.is_plain() {
            let placed = placements.iter().flat_map(|placement| placement.tokens.iter());
            let own = root.iter().chain(placed).chain(tail).copied().collect();
            let (root, placements, repair) = (None, Vec::new(), None);
            return Self { root, placements, own_start: 0, tail_at: before, own, repair };
        }
        let places = Places::new(&request.composition);
        let own_start = request.policy.layout().tail_start(&places);
        let alone = |tokens: &Arc<[models::TokenId]>| {
            Content::root(&shape.fingerprint, &request.tenant, tokens)
        };
        let root = (!root.is_empty()).then(|| alone(root));
        let placed = |Placement { tokens, sealed }: &Placement| match (&root, sealed) {
            (Some(root), Some(seen)) => Content::sealed(&shape.fingerprint, root, tokens, seen),
            (Some(root), None) => Content::after(&shape.fingerprint, root, tokens),
            (None, _) => alone(tokens),
        };
        let placements = placements.iter().map(placed).collect();
        let own = tail.clone();
        let repair = Some(Repair::new(request, places));
        Self { root, placements, own_start, tail_at: 0, own, repair }
    }
}

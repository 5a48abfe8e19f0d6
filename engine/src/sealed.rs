//! Contextual fragments: sealed from a finished tail, without prefill.
//!
//! When a generation ends, the rows of its tail and its answer are there already: sealing hands their
//! pages over to a record. Their KV saw what stood before them, so the record is *contextual*: it
//! lists what it saw, its identity is a hash of that too, and no clean fragment is ever taken for it
//! (invariant 5). It cannot be encoded again from its tokens, so it is safe only where a tier has it:
//! - Kept by a tier, it is evicted like any other and fetched again, after a restart too; its file
//!   says all that it saw.
//! - Kept by none, it is the last to be evicted, and then forgotten.
//! - Kept and then lost, it is forgotten, and jobs that need it fail as if it had never been.

use crate::{FragmentId, JoinPolicy, fragments::Content, job::Job, state::State};
use models::TokenId;
use std::sync::Arc;

/// What a sealed fragment saw, besides its root, when its rows were computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Sealed {
    /// The fragments that stood before it, in order.
    pub saw: Arc<[FragmentId]>,
    /// How they were joined.
    pub policy: JoinPolicy,
    /// Rows of them that had been computed again, by their sequential positions.
    pub selected: Arc<[u32]>,
    /// Composed position of its first row, where its keys are rotated.
    pub start: u32,
}

/// Asks for a generation's tail and answer to become a fragment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seal {
    /// Tokens put behind the answer, such as the template's end of a turn.
    pub closing: Vec<TokenId>,
}

impl Content {
    /// A contextual fragment after `root`.
    pub(crate) fn sealed(
        fingerprint: &[u8; 32],
        root: &Self,
        tokens: &Arc<[TokenId]>,
        sealed: &Arc<Sealed>,
    ) -> Self {
        let clean = Self::after(fingerprint, root, tokens);
        let id = identity(&clean, sealed);
        Self { id, sealed: Some(Arc::clone(sealed)), ..clean }
    }

    /// Its KV saw more than its root: nothing but a generation can make it.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }
}

impl State {
    /// Its KV is nowhere, and nothing can make it again.
    pub(crate) fn is_lost(&self, id: FragmentId) -> bool {
        self.fragments.get(id).is_some_and(|record| {
            let has_pages = !record.pages.is_empty();
            let is_there = record.is_cached() || self.stored.may_bring(id, has_pages);
            record.content.is_sealed() && !is_there
        })
    }

    /// Whoever needs a record that is lost ends at the next commit, which then forgets it.
    pub(crate) fn give_up(&mut self, id: FragmentId) {
        if !self.is_lost(id) {
            return;
        }
        let needs_it = |job: &&mut Job| job.sealed().any(|need| need.id == id);
        for job in self.jobs_mut().filter(needs_it).filter(|job| !job.cancelled) {
            job.cancelled = true;
            job.lost = Some(id);
        }
        self.lost.push(id);
    }

    /// Holds the sealed records of a job that waits.
    pub(crate) fn hold_sealed(&mut self, job: &Job) {
        for need in job.sealed() {
            self.fragments.get_mut(need.id).expect("a sealed fragment in use is known").users += 1;
        }
    }

    /// A waiting job is no more: it holds no sealed records.
    pub(crate) fn release_sealed(&mut self, job: &Job) {
        for need in job.sealed() {
            self.fragments.get_mut(need.id).expect("a sealed fragment in use is known").users -= 1;
        }
    }
}

/// First 16 bytes of blake3 over the clean fragment's identity and all that was seen besides.
fn identity(clean: &Content, sealed: &Sealed) -> FragmentId {
    let Sealed { saw, policy, selected, start } = sealed;
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"cento sealed fragment 1");
    hasher.update(&clean.id.0);
    hasher.update(&start.to_le_bytes());
    hasher.update(&(saw.len() as u64).to_le_bytes());
    for id in &**saw {
        hasher.update(&id.0);
    }
    hasher.update(&(selected.len() as u64).to_le_bytes());
    for position in &**selected {
        hasher.update(&position.to_le_bytes());
    }
    hasher.update(policy.to_string().as_bytes());
    let hash = hasher.finalize();
    FragmentId(hash.as_bytes()[..16].try_into().expect("blake3 gives 32 bytes"))
}

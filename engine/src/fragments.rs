//! The registry of fragments and roots: identity by content, their KV pages, who uses them.
//!
//! A *record* is a fragment (encoded after a root) or a root (encoded after nothing, once for
//! each tenant, shared by all its fragments and sequences). A record stays known when its KV is
//! evicted; encoding it again gives the same bytes, because a record's KV depends on nothing but
//! what its identity hashes. Sealed records alone are forgotten with their KV, unless a tier has it
//! (see `sealed.rs`), and held by jobs from the moment they are submitted. Invariant: pages are held
//! whole or not at all.

use crate::{FragmentId, Sealed, tier::Entry};
use kernels::PageId;
use models::TokenId;
use std::{collections::BTreeMap, sync::Arc};

/// What identifies a record, and all that is needed to encode it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Content {
    pub(crate) id: FragmentId,
    pub(crate) tenant: Arc<str>,
    /// The root's record; `None`: this is a root.
    pub(crate) root: Option<FragmentId>,
    /// Tokens of the root; empty: this is a root.
    pub(crate) root_tokens: Arc<[TokenId]>,
    pub(crate) tokens: Arc<[TokenId]>,
    /// What it saw besides its root; `None`: it is clean.
    pub(crate) sealed: Option<Arc<Sealed>>,
}

impl Content {
    /// What a tier is told of its record, which is not pinned.
    pub(crate) fn entry(&self) -> Entry {
        Entry {
            id: self.id,
            tenant: self.tenant.clone(),
            root: self.root_tokens.clone(),
            tokens: self.tokens.clone(),
            sealed: self.sealed.clone(),
            pinned: false,
        }
    }

    /// A root of `tenant`.
    pub(crate) fn root(fingerprint: &[u8; 32], tenant: &Arc<str>, tokens: &Arc<[TokenId]>) -> Self {
        let id = identity(fingerprint, tenant, &[], tokens);
        let (tenant, tokens) = (tenant.clone(), tokens.clone());
        Self { id, tenant, root: None, root_tokens: Arc::from([]), tokens, sealed: None }
    }

    /// A fragment after `root`.
    pub(crate) fn after(fingerprint: &[u8; 32], root: &Content, tokens: &Arc<[TokenId]>) -> Self {
        assert!(root.root.is_none(), "a fragment is encoded after a root");
        Self {
            id: identity(fingerprint, &root.tenant, &root.tokens, tokens),
            tenant: root.tenant.clone(),
            root: Some(root.id),
            root_tokens: root.tokens.clone(),
            tokens: tokens.clone(),
            sealed: None,
        }
    }

    /// Pages its KV takes.
    pub(crate) fn pages(&self, page_rows: usize) -> usize {
        self.tokens.len().div_ceil(page_rows)
    }
}

/// A fragment or a root, and its KV.
pub(crate) struct Record {
    pub(crate) content: Content,
    /// Empty: no KV in memory.
    pub(crate) pages: Vec<PageId>,
    /// Rows encoded so far.
    pub(crate) encoded: usize,
    pub(crate) pinned: bool,
    /// Running jobs that hold it; of a sealed one, waiting jobs too.
    pub(crate) users: usize,
    /// Moment of the latest use, by the state's counter.
    pub(crate) used_at: u64,
}

impl Record {
    /// Its KV is whole.
    pub(crate) fn is_cached(&self) -> bool {
        self.encoded == self.content.tokens.len()
    }

    /// What a tier is told of it.
    pub(crate) fn entry(&self) -> Entry {
        Entry { pinned: self.pinned, ..self.content.entry() }
    }

    /// Its KV may be thrown away.
    pub(crate) fn is_evictable(&self) -> bool {
        !self.pages.is_empty() && self.users == 0 && !self.pinned
    }
}

/// All records by identity.
#[derive(Default)]
pub(crate) struct Fragments {
    records: BTreeMap<FragmentId, Record>,
}

impl Fragments {
    /// Looks up without touching.
    pub(crate) fn get(&self, id: FragmentId) -> Option<&Record> {
        self.records.get(&id)
    }

    /// The record of a running job's fragment or root.
    pub(crate) fn held(&self, id: FragmentId) -> &Record {
        self.records.get(&id).expect("a record in use is never forgotten")
    }

    pub(crate) fn get_mut(&mut self, id: FragmentId) -> Option<&mut Record> {
        self.records.get_mut(&id)
    }

    /// The record of `content`, made when it is not known.
    ///
    /// # Panics
    /// When another content has the same identity: submitting refused that already.
    pub(crate) fn intern(&mut self, content: &Content, now: u64) -> &mut Record {
        let record = self.records.entry(content.id).or_insert_with(|| Record {
            content: content.clone(),
            pages: Vec::new(),
            encoded: 0,
            pinned: false,
            users: 0,
            used_at: now,
        });
        assert_eq!(record.content, *content, "two contents with one identity");
        record.used_at = now;
        record
    }

    /// Forgets a record and returns it; its pages are the caller's to release.
    pub(crate) fn forget(&mut self, id: FragmentId) -> Option<Record> {
        self.records.remove(&id)
    }

    /// Hash hits are verified: `false` when `content`'s identity belongs to other tokens.
    pub(crate) fn agrees(&self, content: &Content) -> bool {
        self.get(content.id).is_none_or(|record| record.content == *content)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Panics unless every record's pages and rows agree.
    pub(crate) fn check_integrity(&self, page_rows: usize) {
        for record in self.iter() {
            let whole = record.content.pages(page_rows);
            let pages = record.pages.len();
            let id = record.content.id;
            assert!(pages == 0 || pages == whole, "{id} holds {pages} of {whole} pages");
            assert!(record.encoded <= record.content.tokens.len(), "{id}: too many rows");
            assert!(pages > 0 || record.encoded == 0, "{id} has rows but no pages");
            assert!(
                pages == 0 || record.is_cached() || record.users > 0,
                "{id}: unfinished, unused"
            );
        }
    }
}

/// First 16 bytes of blake3 over all that a fragment's KV depends on. Every variable part is
/// preceded by its length, so that no two contents give the same bytes to hash.
pub(crate) fn identity(
    fingerprint: &[u8; 32],
    tenant: &str,
    root: &[TokenId],
    tokens: &[TokenId],
) -> FragmentId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"cento fragment 1");
    hasher.update(fingerprint);
    hasher.update(&(tenant.len() as u64).to_le_bytes());
    hasher.update(tenant.as_bytes());
    for part in [root, tokens] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        for token in part {
            hasher.update(&token.to_le_bytes());
        }
    }
    let hash = hasher.finalize();
    FragmentId(hash.as_bytes()[..16].try_into().expect("blake3 gives 32 bytes"))
}

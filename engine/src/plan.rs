//! A plan: everything one step will do, as plain data. Prints as one line, for tests and traces.

use crate::{FragmentId, SequenceId, overlays::OverlayId, policy::Scores, prefix::EntryId};
use kernels::PageId;
use models::Weight;
use std::{fmt, ops::Range};

/// What one step does. Pages named here change hands in `commit`.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Records whose KV came from the tier, to be put in their pages.
    pub(crate) loads: Vec<FragmentId>,
    /// A record to offer to the tier.
    pub(crate) keep: Option<FragmentId>,
    /// Swaps that the commit looks at.
    pub(crate) swaps: usize,
    /// Rows of records to encode.
    pub(crate) encodes: Vec<Encode>,
    /// Rows of overlays to compute.
    pub(crate) repairs: Vec<Repairing>,
    /// Rows of sequences to forward.
    pub(crate) forwards: Vec<Forward>,
    /// Rows to score with, or to score: forwarded each for itself.
    pub(crate) probes: Vec<Probe>,
    /// Cancelled jobs to end.
    pub(crate) ends: Vec<SequenceId>,
    /// Running jobs that give their place back and wait again.
    pub(crate) preemptions: Vec<SequenceId>,
    /// What loses its KV.
    pub(crate) evictions: Vec<Eviction>,
    /// Fragments to forget because someone asked, if nobody uses them.
    pub(crate) drops: Vec<FragmentId>,
    /// Records to forget because too many are known.
    pub(crate) forgets: Vec<FragmentId>,
    /// Waiting jobs that start to run with the next step.
    pub(crate) admissions: Vec<Admission>,
}

/// Rows of a record to encode.
#[derive(Debug)]
pub(crate) struct Encode {
    pub(crate) id: FragmentId,
    pub(crate) rows: Range<usize>,
}

/// Rows of an overlay to compute, for a sequence that looks at it.
#[derive(Debug)]
pub(crate) struct Repairing {
    pub(crate) id: OverlayId,
    pub(crate) sequence: SequenceId,
    pub(crate) rows: Range<usize>,
}

/// Rows that help to choose what is computed again.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) id: SequenceId,
    pub(crate) by: Scores,
    /// Of the tail, or of the placements.
    pub(crate) rows: Range<usize>,
    /// The last of them is asked for its logits.
    pub(crate) logits: bool,
}

/// Own rows of a sequence to forward.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) id: SequenceId,
    pub(crate) rows: Range<usize>,
    /// Rows at the end whose logits are wanted.
    pub(crate) logits: usize,
    /// A free page for the last row, where the sequence has none for it.
    pub(crate) grow: Option<PageId>,
}

/// What loses its KV.
#[derive(Debug)]
pub(crate) enum Eviction {
    Record(FragmentId),
    Prefix(EntryId),
    Overlay(OverlayId),
}

/// Own rows of a running sequence that another's own run begins with. Their whole pages are shared; of
/// the last one, where it isn't full, the rows are copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adopted {
    pub(crate) from: SequenceId,
    pub(crate) rows: usize,
}

/// A place for a waiting job.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) id: SequenceId,
    pub(crate) tenant: std::sync::Arc<str>,
    /// Free pages for records that have none.
    pub(crate) records: Vec<(FragmentId, Vec<PageId>)>,
    /// Cached pages that begin the own run.
    pub(crate) prefix: Vec<(EntryId, PageId)>,
    /// Rows that begin the own run, of a sequence that runs; then there is no `prefix`.
    pub(crate) adopted: Option<Adopted>,
    /// Free pages for the rest of the own run.
    pub(crate) own: Vec<PageId>,
    /// Free pages for rows that are computed again.
    pub(crate) overlay: Vec<PageId>,
}

impl Forward {
    /// Own rows whose logits are wanted.
    pub(crate) fn logits_rows(&self) -> Range<usize> {
        self.rows.end - self.logits..self.rows.end
    }
}

impl Plan {
    /// Forgets everything but the memory it took.
    pub(crate) fn clear(&mut self) {
        let Self { loads, keep, swaps, encodes, repairs, forwards, probes, .. } = self;
        *swaps = 0;
        loads.clear();
        *keep = None;
        encodes.clear();
        repairs.clear();
        forwards.clear();
        probes.clear();
        let Self { ends, preemptions, evictions, drops, forgets, admissions, .. } = self;
        ends.clear();
        preemptions.clear();
        evictions.clear();
        drops.clear();
        forgets.clear();
        admissions.clear();
    }

    /// Rows to encode, where the batch has no others.
    pub(crate) fn only_encodes(&self) -> Option<usize> {
        let is_alone =
            self.repairs.is_empty() && self.forwards.is_empty() && self.probes.is_empty();
        let rows = self.encodes.iter().map(|encode| encode.rows.len()).sum();
        (is_alone && rows > 0).then_some(rows)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.swaps == 0 && self.is_idle()
    }

    /// Nothing but swaps, which may have to wait for what others do.
    pub(crate) fn is_idle(&self) -> bool {
        self.loads.is_empty()
            && self.keep.is_none()
            && self.encodes.is_empty()
            && self.repairs.is_empty()
            && self.forwards.is_empty()
            && self.probes.is_empty()
            && self.ends.is_empty()
            && self.preemptions.is_empty()
            && self.evictions.is_empty()
            && self.drops.is_empty()
            && self.forgets.is_empty()
            && self.admissions.is_empty()
    }
}

impl fmt::Display for Plan {
    /// `decode 1 · prefill 2 0..8 · encode 5 rows 0..5 · evict a record · preempt 3 · admit 4 (2 pages)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        for Forward { id, rows, grow, .. } in &self.forwards {
            let grow = if grow.is_some() { " +page" } else { "" };
            parts.push(format!("forward {} {}..{}{grow}", id.0, rows.start, rows.end));
        }
        parts.extend(self.loads.iter().map(|_| "load".into()));
        parts.extend((0..self.swaps).map(|_| "swap".into()));
        parts.extend(self.keep.iter().map(|_| "keep".into()));
        parts.extend(
            self.encodes.iter().map(|e| format!("encode {}..{}", e.rows.start, e.rows.end)),
        );
        parts.extend(
            self.repairs.iter().map(|r| format!("repair {}..{}", r.rows.start, r.rows.end)),
        );
        for Probe { id, by, rows, .. } in &self.probes {
            let by = match by {
                Scores::Tail(Weight::Attention) => "attention",
                Scores::Tail(Weight::Influence) => "influence",
                Scores::Deviation => "deviation",
            };
            parts.push(format!("score {} by {by} {}..{}", id.0, rows.start, rows.end));
        }
        parts.extend(self.ends.iter().map(|id| format!("end {}", id.0)));
        parts.extend(self.preemptions.iter().map(|id| format!("preempt {}", id.0)));
        parts.extend(self.evictions.iter().map(|eviction| match eviction {
            Eviction::Record(_) => "evict record".into(),
            Eviction::Prefix(_) => "evict prefix".into(),
            Eviction::Overlay(_) => "evict overlay".into(),
        }));
        parts.extend(self.drops.iter().map(|_| "drop".into()));
        parts.extend(self.forgets.iter().map(|_| "forget".into()));
        for Admission { id, records, prefix, own, overlay, .. } in &self.admissions {
            let records: usize = records.iter().map(|(_, pages)| pages.len()).sum();
            let new = records + own.len() + overlay.len();
            parts.push(format!("admit {} with {new} pages, {} cached", id.0, prefix.len()));
        }
        f.write_str(&if parts.is_empty() { "nothing".into() } else { parts.join(" · ") })
    }
}

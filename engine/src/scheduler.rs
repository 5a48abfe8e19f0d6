//! `plan`: what the next step does. A pure function of the state and the budget: no model, no
//! clock, no randomness, nothing changed.
//!
//! How it can never be stuck:
//! - A job is admitted when free pages hold its whole prompt *and* every record it lacks; encoding
//!   and prefill therefore never wait for pages. Only decoding grows, page by page.
//! - When a decode finds no free page, unused KV is evicted; when there is none, the last job is
//!   preempted: the youngest of the least urgent. The first is never preempted for pages while another
//!   runs, and alone it fits: submitting made sure of that, pinned fragments included.
//! - A job gives way to a more urgent one of its tenant that waits, never to one as urgent: no two
//!   displace each other. (Who keeps coming with urgent work keeps his own less urgent work waiting.)
//! - Jobs are admitted in the queue's order, so that a large one is not passed by for ever. Only
//!   places are of three kinds, for generations, for fragments to put and for those of low priority
//!   among them, so that none waits for another's; and the last may pass by a job that waits for pages,
//!   for what they hold is evictable as soon as they end.
//!
//! Pages freed by this plan are given out by the next one.

mod unused;
mod wanted;

use crate::{
    FragmentId, Priority, SequenceId,
    fragments::Content,
    job::Job,
    limits::{Budget, low_rows},
    overlays::{Overlay, OverlayId},
    plan::{Admission, Encode, Eviction, Forward, Plan, Probe, Repairing},
    policy::Scores,
    repair::Repair,
    sequence::Sequence,
    state::State,
};
use kernels::PageId;
use std::collections::{BTreeSet, btree_set};
use unused::{Kept, evictable};
use wanted::{Lane, Wanted};

/// Decides the next step: fills `plan`, whatever stood there.
pub(crate) fn plan(state: &State, budget: &Budget, plan: &mut Plan) {
    plan.clear();
    let mut draft = Draft {
        state,
        free: state.pages.free().iter(),
        rows: budget.rows,
        prefill_rows: budget.prefill_rows,
        logits: budget.logits_rows,
        encoding: BTreeSet::new(),
        repairing: BTreeSet::new(),
        plan,
    };
    draft.end_cancelled();
    draft.plan.loads.extend(state.to_load());
    draft.plan.swaps = state.swaps.len();
    draft.plan.keep = state.stored.to_keep(&state.fragments);
    draft.plan.drops.extend(state.drops.iter().map(|&(id, _)| id));
    let starved = draft.decode();
    let mut evict = 0;
    if starved > 0 {
        evict = starved;
        draft.preempt_unless_evictable(starved);
    } else {
        draft.make_way(budget.running);
    }
    draft.prefill();
    // What is dropped is gone already, and what that frees is not yet visible in `state`: such a
    // step admits nobody.
    let mut kept = Kept { records: draft.plan.drops.iter().copied().collect(), ..Kept::default() };
    if starved == 0 && draft.plan.drops.is_empty() {
        evict = draft.admit(budget.running, &mut kept);
    }
    // One free page for each running job, so that decodes rarely wait a step for their next page.
    let spare = state.running.len().saturating_sub(draft.free.len());
    draft.plan.evictions = evictable(state, &kept, evict.max(spare)).0;
    if draft.plan.drops.is_empty() {
        draft.forget(budget.fragments, &kept);
    }
}

/// A plan in the making, and what is left to give out.
struct Draft<'a> {
    state: &'a State,
    /// Free pages, the lowest first.
    free: btree_set::Iter<'a, PageId>,
    rows: usize,
    prefill_rows: usize,
    logits: usize,
    /// Records that this plan encodes rows of.
    encoding: BTreeSet<FragmentId>,
    /// Overlays that this plan computes rows of.
    repairing: BTreeSet<OverlayId>,
    plan: &'a mut Plan,
}

impl<'a> Draft<'a> {
    fn end_cancelled(&mut self) {
        let cancelled = self.state.jobs().filter(|job| job.cancelled);
        self.plan.ends.extend(cancelled.map(|job| job.id));
    }

    /// Running jobs that go on: the most urgent first, and the oldest among those.
    fn going_on(&self) -> impl Iterator<Item = &'a Job> + use<'a> {
        let running = &self.state.running;
        Priority::ALL.iter().flat_map(move |&priority| {
            running.values().filter(move |job| job.priority == priority && !job.cancelled)
        })
    }

    fn is_joined(&self, job: &Job) -> bool {
        job.is_joined(&self.state.fragments, &self.state.overlays)
    }

    /// One row for every sequence that lacks one row, or has no page for more. Returns how many
    /// found no page for it.
    fn decode(&mut self) -> usize {
        let mut starved = 0;
        for job in self.going_on() {
            let Some(sequence) = job.sequence() else { continue };
            let full = sequence.rows == self.rows_held(sequence);
            if (sequence.rows_missing() > 1 && !full) || !self.is_joined(job) {
                continue;
            }
            let grow = if full { self.free.next().copied() } else { None };
            if full && grow.is_none() {
                starved += 1;
            } else {
                self.forward(job.id, sequence, 1, grow);
            }
        }
        starved
    }

    /// Rows that a sequence's pages hold.
    fn rows_held(&self, sequence: &Sequence) -> usize {
        sequence.pages.len() * self.state.shape.page_rows
    }

    fn forward(&mut self, id: SequenceId, sequence: &Sequence, count: usize, grow: Option<PageId>) {
        let rows = sequence.rows..sequence.rows + count;
        let logits = sequence.logits_wanted(&rows);
        self.rows -= count;
        self.logits -= logits;
        self.plan.forwards.push(Forward { id, rows, logits, grow });
    }

    /// Sends the last job back to wait, unless evicting unused KV is enough for `pages`, or
    /// something is about to be freed in another way.
    fn preempt_unless_evictable(&mut self, pages: usize) {
        let is_enough = evictable(self.state, &Kept::default(), pages).1 >= pages;
        if is_enough || !self.plan.ends.is_empty() || !self.plan.drops.is_empty() {
            return;
        }
        assert!(self.state.running.len() > 1, "a job alone always finds its pages");
        let last = self.going_on().last().expect("a starving job runs").id;
        self.preempt(last);
    }

    fn preempt(&mut self, id: SequenceId) {
        self.plan.forwards.retain(|forward| forward.id != id);
        self.plan.preemptions.push(id);
    }

    /// Sends a less urgent job of its tenant back to wait, where the next in line finds no place.
    fn make_way(&mut self, running_max: usize) {
        if !self.plan.ends.is_empty() || !self.plan.drops.is_empty() {
            return;
        }
        let Some(first) = self.state.waiting.in_order().next() else { return };
        let gives_way = |job: &&Job| {
            let is_alike = Lane::of(job) == Lane::of(first);
            is_alike && job.tenant == first.tenant && job.priority < first.priority
        };
        let last = self.going_on().filter(gives_way).last();
        if let Some(last) = last.filter(|_| !first.cancelled && !self.fits(first, running_max)) {
            self.preempt(last.id);
        }
    }

    /// A waiting job finds a place, and pages after evicting what is unused.
    fn fits(&self, job: &Job, running_max: usize) -> bool {
        let running = &self.state.running;
        let alike = running.values().filter(|other| Lane::of(other) == Lane::of(job));
        let mut kept = Kept::default();
        let wanted = Wanted::new(self.state, job, &BTreeSet::new());
        kept.count_on(job, &wanted);
        let lacking = (wanted.pages() + running.len()).saturating_sub(self.free.len());
        alike.count() < running_max && evictable(self.state, &kept, lacking).1 >= lacking
    }

    /// Fills the step with encoding and prefill, in the order of `going_on`; of the rows, some are left
    /// to those of low priority.
    fn prefill(&mut self) {
        let low = self.going_on().filter(|job| is_low(job));
        let mut low: Vec<_> =
            low.map(|job| (job.is_sequence(), self.rows_lacking(job), job)).collect();
        let is_urgent = self.going_on().any(|job| !is_low(job));
        let all = self.prefill_rows.min(self.rows);
        self.prefill_rows = all;
        if is_urgent {
            let wanted: usize = low.iter().map(|&(_, rows, _)| rows).sum();
            self.prefill_rows -= wanted.min(low_rows(all, all)).min(all / 2);
        }
        let given = self.prefill_rows;
        for job in self.going_on().filter(|job| !is_low(job)) {
            self.prefill_one(job);
        }
        let used = given - self.prefill_rows;
        let left = all - used;
        self.prefill_rows = if is_urgent { left.min(low_rows(all, used)) } else { left };
        // A side context's few tokens do not wait for what is long.
        low.sort_by_key(|&(is_sequence, rows, _)| (is_sequence, rows));
        for (_, _, job) in low {
            self.prefill_one(job);
        }
    }

    /// Rows that a job of low priority needs, and no more urgent one computes for it.
    fn rows_lacking(&self, job: &Job) -> usize {
        let needs_too = |need: &Content, other: &Job| other.needs.iter().any(|it| it.id == need.id);
        let is_urgent = |need: &Content| {
            self.going_on().filter(|job| !is_low(job)).any(|other| needs_too(need, other))
        };
        let lacking = |need: &Content| match self.rows_to_encode(need) {
            // Who else needs it is asked of the few that are not there.
            rows if rows > 0 && !is_urgent(need) => rows,
            _ => 0,
        };
        let own = job.sequence().map_or(0, Sequence::rows_missing);
        let needed: usize = job.needs.iter().map(lacking).sum();
        needed + if own > 1 { own } else { 0 }
    }

    /// The next rows of what a job needs, and of its own.
    fn prefill_one(&mut self, job: &Job) {
        if self.plan.preemptions.contains(&job.id) {
            return;
        }
        for need in &job.needs {
            self.encode(need);
        }
        let Some(sequence) = job.sequence() else { return };
        if !job.is_composed(&self.state.fragments) {
            return;
        }
        if let Some(repair) = sequence.repair.as_ref().filter(|_| !self.is_joined(job)) {
            self.repair(job.id, sequence, repair);
        } else if sequence.rows_missing() > 1 {
            // Where there is no page for more, the next row came with `decode`.
            let count = self.chunk(sequence);
            if count > 0 {
                self.prefill_rows -= count;
                self.forward(job.id, sequence, count, None);
            }
        }
    }

    /// The next rows of a record, once its root is whole.
    fn encode(&mut self, content: &Content) {
        let root_is_cached =
            content.root.is_none_or(|root| self.state.fragments.held(root).is_cached());
        if !root_is_cached || self.encoding.contains(&content.id) {
            return;
        }
        let count = self.rows_to_encode(content).min(self.rows).min(self.prefill_rows);
        if count > 0 {
            self.spend(count);
            self.encoding.insert(content.id);
            let encoded = self.state.fragments.held(content.id).encoded;
            let rows = encoded..encoded + count;
            self.plan.encodes.push(Encode { id: content.id, rows });
        }
    }

    /// Rows that a record lacks, unless it is not encoded, or a tier has it.
    fn rows_to_encode(&self, content: &Content) -> usize {
        let record = self.state.fragments.held(content.id);
        let is_coming = self.state.stored.is_fetching(content.id)
            || self.state.stored.arrived().contains_key(&content.id);
        let is_made = record.is_cached() || content.is_sealed();
        if is_made || is_coming { 0 } else { content.tokens.len() - record.encoded }
    }

    /// The next rows that help to choose what is computed again, or of what was chosen.
    fn repair(&mut self, id: SequenceId, sequence: &Sequence, repair: &Repair) {
        let room = self.rows.min(self.prefill_rows);
        if let Some(by) = repair.scoring() {
            let count = repair.rows_to_score(sequence.tail_rows()).min(room);
            if count > 0 {
                let rows = repair.scored..repair.scored + count;
                let is_last = rows.end == sequence.tail_rows();
                let logits = matches!(by, Scores::Tail(_)) && is_last;
                self.plan.probes.push(Probe { id, by, rows, logits });
                self.spend(count);
            }
        } else if let Some(overlay) = repair.overlay
            && !self.repairing.contains(&overlay)
        {
            let Overlay { rows, ref tokens, .. } = *self.state.overlays.held(overlay);
            let count = (tokens.len() - rows).min(room);
            if count > 0 {
                self.repairing.insert(overlay);
                let rows = rows..rows + count;
                self.plan.repairs.push(Repairing { id: overlay, sequence: id, rows });
                self.spend(count);
            }
        }
    }

    fn spend(&mut self, rows: usize) {
        self.rows -= rows;
        self.prefill_rows -= rows;
    }

    /// The most rows of a prefill that rows and logits allow.
    fn chunk(&self, sequence: &Sequence) -> usize {
        let room = self.rows_held(sequence) - sequence.rows;
        let count = sequence.rows_missing().min(room).min(self.rows).min(self.prefill_rows);
        let rows = sequence.rows..sequence.rows + count;
        // Rows that want logits stand at the end: each one too many shortens the chunk by one.
        count - sequence.logits_wanted(&rows).saturating_sub(self.logits)
    }

    /// Gives places to waiting jobs in the queue's order, and `kept` what they count on. Returns
    /// how many pages to evict so that the first that found no pages fits.
    fn admit(&mut self, running_max: usize, kept: &mut Kept) -> usize {
        let mut left = Lane::ALL.map(|lane| {
            let held = self.state.running.values().filter(|job| Lane::of(job) == lane).count();
            running_max.saturating_sub(held)
        });
        let mut running = self.state.running.len();
        let (mut given, mut evict, mut is_short) = (BTreeSet::new(), 0, false);
        for job in self.state.waiting.in_order() {
            let lane = Lane::of(job);
            let left = &mut left[lane as usize];
            if *left == 0 || job.cancelled || (is_short && lane != Lane::Upkeep) {
                continue;
            }
            let wanted = Wanted::new(self.state, job, &given);
            let lacking = if is_short && evict > 0 {
                // What passes by one that gets its pages now is made good, beside what that one lacks.
                evict + wanted.pages()
            } else {
                // A spare page for each running job: an admission should not cause a preemption.
                (wanted.pages() + running).saturating_sub(self.free.len())
            };
            if lacking > 0 {
                let mut with = kept.clone();
                with.count_on(job, &wanted);
                let fits = evictable(self.state, &with, lacking).1 >= lacking;
                let is_room = wanted.pages() <= self.free.len();
                if lane == Lane::Upkeep && fits && is_room {
                    evict = lacking;
                } else if lane == Lane::Upkeep && fits && evict > 0 {
                    // It gets its few pages beside those of who is first in line, in the next step.
                    (evict, *kept) = (lacking, with);
                    continue;
                } else {
                    if !is_short {
                        (evict, is_short, *kept) = (if fits { lacking } else { 0 }, true, with);
                    }
                    continue;
                }
            }
            kept.count_on(job, &wanted);
            *left -= 1;
            running += 1;
            given.extend(wanted.records.iter().map(|&(id, _)| id));
            self.give(job, wanted);
        }
        evict
    }

    fn give(&mut self, job: &Job, wanted: Wanted) {
        let mut take =
            |count: usize| -> Vec<_> { self.free.by_ref().take(count).copied().collect() };
        self.plan.admissions.push(Admission {
            id: job.id,
            tenant: job.tenant.clone(),
            records: wanted.records.iter().map(|&(id, pages)| (id, take(pages))).collect(),
            own: take(wanted.own),
            overlay: take(wanted.overlay),
            prefix: wanted.prefix,
            adopted: wanted.adopted,
        });
    }

    /// Forgets the least recently used records beyond `known_max`.
    fn forget(&mut self, known_max: usize, kept: &Kept) {
        let excess = self.state.fragments.len().saturating_sub(known_max);
        if excess == 0 {
            return;
        }
        let unused = |id| !kept.records.contains(&id);
        let mut records: Vec<_> = self
            .state
            .fragments
            .iter()
            .filter(|record| record.users == 0 && !record.pinned && unused(record.content.id))
            .map(|record| (record.used_at, record.content.id))
            .collect();
        records.sort_unstable();
        let Plan { forgets, evictions, .. } = &mut *self.plan;
        forgets.extend(records.into_iter().take(excess).map(|(_, id)| id));
        evictions
            .retain(|eviction| !matches!(eviction, Eviction::Record(id) if forgets.contains(id)));
    }
}

fn is_low(job: &Job) -> bool {
    job.priority == Priority::Low
}

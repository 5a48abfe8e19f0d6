//! `commit`: makes a plan true. The only place, but for swaps, where pages change hands, and where
//! readers hear what became of their work.

use crate::{
    Event, FinishReason, FragmentId, RequestError, SequenceId,
    job::{Job, Work},
    overlays::{OverlayId, Overlays},
    pages::Pages,
    plan::{Admission, Adopted, Encode, Eviction, Forward, Plan, Probe, Repairing},
    policy::Scores,
    runner::{Forwarded, Outcome, Probed},
    sequence::{Sequence, Taken},
    state::State,
};
use kernels::PageId;
use std::time::Duration;

impl State {
    /// What is given up goes first and admissions before ends, so that a record that passes from
    /// an ending job to an admitted one is never without a user.
    pub(crate) fn commit(&mut self, plan: &mut Plan, outcome: &mut Outcome, time: Duration) {
        self.now += 1;
        let is_idle = plan.encodes.is_empty() && plan.repairs.is_empty();
        let is_idle = is_idle && plan.forwards.is_empty() && plan.probes.is_empty();
        self.stats.steps += u64::from(!is_idle);
        for id in plan.loads.drain(..) {
            self.loaded(id);
        }
        self.stored.clear_arrived();
        self.stored.offered(plan.keep);
        self.drop_asked();
        for id in plan.forgets.drain(..) {
            self.forget(id);
        }
        for eviction in plan.evictions.drain(..) {
            self.evict(&eviction);
        }
        for admission in plan.admissions.drain(..) {
            self.admit(&admission, time);
        }
        if let Some(rows) = plan.only_encodes() {
            self.stored.encoded(outcome.took, rows);
        }
        for encode in plan.encodes.drain(..) {
            self.encoded(&encode);
        }
        for repairing in plan.repairs.drain(..) {
            self.repaired(&repairing);
        }
        for (probe, scores) in plan.probes.drain(..).zip(outcome.scores.drain(..)) {
            self.scored(&probe, &scores);
        }
        for (forward, forwarded) in plan.forwards.iter().zip(outcome.forwards.drain(..)) {
            self.forwarded(forward, forwarded, outcome.join, time);
        }
        self.settle(time);
        for id in plan.ends.drain(..) {
            self.end(id, FinishReason::Cancelled);
        }
        for id in plan.preemptions.drain(..) {
            self.preempt(id);
        }
        self.forget_lost();
    }

    fn drop_asked(&mut self) {
        for (id, reply) in std::mem::take(&mut self.drops) {
            let record = self.fragments.get(id);
            let held = record.map(|record| (record.users, record.content.tokens.len()));
            let answer = match held {
                None => Err(RequestError::UnknownFragment(id)),
                Some((0, rows)) => {
                    self.forget(id);
                    self.stored.remove(id, rows);
                    Ok(())
                }
                Some((users, _)) => Err(RequestError::InUse(id, users)),
            };
            // A caller that no longer waits needs no answer.
            let _ = reply.send(answer);
        }
    }

    fn forget(&mut self, id: FragmentId) {
        let record = self.fragments.forget(id).expect("a forgotten record was known");
        assert_eq!(record.users, 0, "{id} is forgotten while in use");
        self.stats.evictions += u64::from(record.is_cached());
        for page in record.pages {
            self.pages.release(page);
        }
        for overlay in self.overlays.over(id) {
            self.remove_overlay(overlay);
        }
    }

    /// Forgets sealed records that nothing brings back, now that those who needed them have ended.
    fn forget_lost(&mut self) {
        for id in std::mem::take(&mut self.lost) {
            // It may have been forgotten for another reason, or sealed once more.
            if self.is_lost(id) {
                self.forget(id);
            }
        }
    }

    fn remove_overlay(&mut self, id: OverlayId) {
        for page in self.overlays.remove(id) {
            self.pages.release(page);
        }
    }

    fn evict(&mut self, eviction: &Eviction) {
        match *eviction {
            Eviction::Prefix(id) => self.pages.release(self.prefixes.remove(id)),
            // It may have gone with a fragment in this very step.
            Eviction::Overlay(id) if self.overlays.contains(id) => self.remove_overlay(id),
            Eviction::Overlay(_) => {}
            Eviction::Record(id) => {
                let users = self.fragments.held(id).users;
                assert_eq!(users, 0, "{id} is evicted while in use");
                if self.fragments.held(id).content.is_sealed() && !self.stored.has(id) {
                    self.forget(id);
                } else {
                    self.stats.evictions += 1;
                    self.discard(id);
                }
            }
        }
    }

    /// Frees a record's KV; the record stays known.
    pub(crate) fn discard(&mut self, id: FragmentId) {
        let record = self.fragments.get_mut(id).expect("a discarded record is known");
        record.encoded = 0;
        for page in std::mem::take(&mut record.pages) {
            self.pages.release(page);
        }
    }

    fn admit(&mut self, admission: &Admission, time: Duration) {
        let begun = self.begun(admission);
        let mut job = self.waiting.admit(&admission.tenant, admission.id);
        for need in &job.needs {
            let record = self.fragments.intern(need, self.now);
            // What is sealed was held while the job waited.
            record.users += usize::from(!need.is_sealed());
        }
        for (id, pages) in &admission.records {
            for &page in pages {
                self.pages.take(page);
            }
            let record = self.fragments.get_mut(*id).expect("a needed record was interned");
            assert!(record.pages.is_empty(), "{id} has pages already");
            record.pages.clone_from(pages);
            let is_coming = self.stored.admit(&record.content);
            assert!(is_coming || !record.content.is_sealed(), "{id} is admitted and lost");
        }
        let page_rows = self.shape.page_rows;
        if let Some(sequence) = job.sequence_mut() {
            for &(id, _) in &admission.prefix {
                self.prefixes.touch(id, self.now);
            }
            for &page in &begun {
                self.pages.share(page);
            }
            for &page in &admission.own {
                self.pages.take(page);
            }
            sequence.pages.reserve_exact(sequence.rows_max().div_ceil(page_rows));
            sequence.pages.extend(begun.iter().chain(&admission.own).copied());
            sequence.rows = begun.len() * page_rows;
            if let Some(Adopted { rows, .. }) = admission.adopted {
                self.stats.rows_adopted += rows as u64;
                self.stats.rows_copied += (rows % page_rows) as u64;
                sequence.rows = rows;
            }
            for &page in &admission.overlay {
                self.pages.take(page);
            }
            if let Some(repair) = &mut sequence.repair {
                repair.reserved.clone_from(&admission.overlay);
                let (overlays, pages) = (&mut self.overlays, &mut self.pages);
                look_at_overlay(overlays, pages, sequence, (page_rows, self.now));
            }
            if sequence.times.admitted.is_none() {
                sequence.times.admitted = Some(time);
                let lacks = |id| admission.records.iter().any(|&(other, _)| other == id);
                sequence.count_reused(|id| lacks(id) && !self.stored.is_fetching(id));
                self.stats.tokens_reused += sequence.counts.reused as u64;
                self.stats.tokens_prefix_reused += sequence.counts.prefix_reused as u64;
                self.board.leave();
            }
        }
        self.running.insert(job.id, job);
    }

    /// Pages that an own run begins with and that have an owner already.
    fn begun(&self, admission: &Admission) -> Vec<PageId> {
        let cached = admission.prefix.iter().map(|&(_, page)| page);
        let whole = admission.adopted.iter().flat_map(|&Adopted { from, rows }| {
            let giving = self.running[&from].sequence().expect("sequences give rows");
            giving.pages[..rows / self.shape.page_rows].iter().copied()
        });
        cached.chain(whole).collect()
    }

    /// A record's KV came from the tier, to the pages it has.
    fn loaded(&mut self, id: FragmentId) {
        let record = self.fragments.get_mut(id).expect("a loaded record is known");
        assert_eq!(record.encoded, 0, "{id} is encoded and loaded");
        record.encoded = record.content.tokens.len();
        self.stats.tokens_loaded += record.encoded as u64;
    }

    fn encoded(&mut self, encode: &Encode) {
        let record = self.fragments.get_mut(encode.id).expect("an encoded record is known");
        assert_eq!(record.encoded, encode.rows.start, "rows are encoded in order");
        record.encoded = encode.rows.end;
        if record.is_cached() {
            self.stored.whole(&record.content);
        }
        if record.content.root.is_some() {
            self.stats.tokens_encoded += encode.rows.len() as u64;
        } else {
            self.stats.tokens_prefilled += encode.rows.len() as u64;
        }
    }

    fn repaired(&mut self, repairing: &Repairing) {
        let overlay = self.overlays.held_mut(repairing.id);
        assert_eq!(overlay.rows, repairing.rows.start, "rows are computed in order");
        overlay.rows = repairing.rows.end;
        self.stats.tokens_repaired += repairing.rows.len() as u64;
    }

    /// Takes what a probe scored; when rows are chosen by it, finds or makes their overlay.
    fn scored(&mut self, probe: &Probe, probed: &Probed) {
        self.stats.tokens_scored += probe.rows.len() as u64;
        let job = self.running.get_mut(&probe.id).expect("a probed job runs");
        let sequence = job.sequence_mut().expect("only sequences are probed");
        let (tail, mut heard) = (sequence.tail_rows(), true);
        let repair = sequence.repair.as_mut().expect("only joined rows are scored");
        assert_eq!(repair.scored, probe.rows.start, "rows are scored in order");
        repair.score(probe.rows.len(), probed, tail);
        if let Some(selected) = repair.selected.clone() {
            heard = sequence.stream.send(Event::Chosen { selected });
        }
        let repair = sequence.repair.as_mut().expect("only joined rows are scored");
        let changes_nothing = repair.selected.as_ref().is_some_and(|selected| selected.is_empty());
        if changes_nothing && matches!(probe.by, Scores::Tail(_)) && sequence.scores_told {
            // What the tail scored with is what prefill would compute: only the last row is, for
            // its logits.
            repair.keeps_tail = true;
            sequence.rows = tail - 1;
        }
        let (overlays, pages) = (&mut self.overlays, &mut self.pages);
        look_at_overlay(overlays, pages, sequence, (self.shape.page_rows, self.now));
        job.cancelled |= !heard;
    }

    /// Books the rows of a sequence, tells its reader, and ends it when it is at its end.
    fn forwarded(
        &mut self,
        forward: &Forward,
        forwarded: Forwarded,
        join: Duration,
        time: Duration,
    ) {
        let job = self.running.get_mut(&forward.id).expect("a forwarded job runs");
        let sequence = job.sequence_mut().expect("only sequences are forwarded");
        assert_eq!(sequence.rows, forward.rows.start, "rows are forwarded in order");
        if let Some(page) = forward.grow {
            self.pages.take(page);
            sequence.pages.push(page);
        }
        sequence.rows = forward.rows.end;
        sequence.scores.extend(forwarded.scores);
        sequence.times.join.get_or_insert(join);
        if sequence.output().is_empty() || forward.rows.len() > 1 {
            self.stats.tokens_prefilled += forward.rows.len() as u64;
        }
        if sequence.rows < sequence.own.len() {
            return;
        }
        let publish = sequence.times.prefilled.is_none();
        sequence.times.prefilled.get_or_insert(time);
        let told = sequence.tell_scores(forwarded.next_top);
        let next = forwarded.next.map(|(token, logprob)| sequence.take_token(token, logprob, time));
        let (heard, end) = match next {
            None => (true, sequence.limit_reached()),
            Some(Taken { heard, end, generated }) => {
                self.stats.tokens_generated += u64::from(generated);
                (heard, end)
            }
        };
        job.cancelled |= !told || !heard;
        if publish {
            self.publish(forward.id);
        }
        let Some(reason) = end else { return };
        let sequence = self.running.get_mut(&forward.id).and_then(Job::sequence_mut);
        if !sequence.is_some_and(|sequence| sequence.begin_closing(reason)) {
            self.end(forward.id, reason);
        }
    }

    /// Enters the whole pages that a `recompute` sequence computed into the prefix cache.
    fn publish(&mut self, id: SequenceId) {
        let job = &self.running[&id];
        let Some(sequence) = job.sequence().filter(|sequence| sequence.is_publishable()) else {
            return;
        };
        let computed = &sequence.own[..sequence.rows];
        for page in self.prefixes.publish(&job.tenant, computed, &sequence.pages, self.now) {
            self.pages.share(page);
        }
    }

    /// Answers puts whose fragment is whole, and notes when a sequence's records are.
    fn settle(&mut self, time: Duration) {
        let mut done = Vec::new();
        for job in self.running.values_mut() {
            let composed = job.is_composed(&self.fragments);
            let joined = job.is_joined(&self.fragments, &self.overlays);
            match &mut job.work {
                Work::Put(_) if composed && !job.cancelled => done.push(job.id),
                Work::Generate(sequence) if composed => {
                    sequence.times.composed.get_or_insert(time);
                    if joined {
                        sequence.times.repaired.get_or_insert(time);
                    }
                }
                _ => {}
            }
        }
        for id in done {
            let job = self.leave(id);
            let Work::Put(put) = &job.work else { continue };
            let record = self.fragments.get_mut(job.subject().id).expect("just encoded");
            record.pinned |= put.pin;
            if put.pin {
                self.stored.pin(record.content.id);
            }
            let mut info = self.info(job.subject().id).expect("just encoded");
            info.cached = false;
            let _ = put.reply.send(Ok(info));
        }
    }

    /// Ends a running or waiting job and frees what it held.
    fn end(&mut self, id: SequenceId, reason: FinishReason) {
        let mut sealed = None;
        let mut job = if self.running.contains_key(&id) {
            self.publish(id);
            if reason != FinishReason::Cancelled {
                sealed = self.seal(id);
            }
            self.leave(id)
        } else {
            let tenant = self.waiting.iter().find(|job| job.id == id).map(|job| job.tenant.clone());
            let Some(tenant) = tenant else { return };
            let job = self.waiting.remove(&tenant, id).expect("a job found is there");
            self.release_sealed(&job);
            job
        };
        let lost = job.lost;
        if let Some(sequence) = job.sequence_mut() {
            if sequence.times.admitted.is_none() {
                self.board.leave();
            }
            match lost {
                Some(id) => sequence.stream.end(Event::Failed(RequestError::UnknownFragment(id))),
                None => sequence.finish(reason, sealed),
            }
            self.stats.generations_ended += 1;
        }
    }

    /// Hands the pages of a finished tail over to a record: its fragment needs no prefill.
    fn seal(&mut self, id: SequenceId) -> Option<FragmentId> {
        let job = self.running.get_mut(&id).expect("a job at its end runs");
        let sequence = job.sequence_mut()?;
        let content = sequence.sealed(&self.shape.fingerprint)?;
        let record = self.fragments.intern(&content, self.now);
        // Where it is there already, or on its way, its bytes are the same.
        if record.pages.is_empty() {
            record.pages = std::mem::take(&mut sequence.pages);
            record.encoded = content.tokens.len();
            self.stored.whole(&content);
        }
        Some(content.id)
    }

    fn preempt(&mut self, id: SequenceId) {
        // It may have been ended by its last token in this very step.
        if self.running.contains_key(&id) {
            self.publish(id);
            let mut job = self.leave(id);
            let is_told =
                |sequence: &&mut Sequence| sequence.swaps > 0 && sequence.closing.is_none();
            if let Some(sequence) = job.sequence_mut().filter(is_told) {
                let at = sequence.output().len();
                let heard = sequence.stream.send(Event::Restarted { at });
                job.cancelled |= !heard;
            }
            self.stats.preemptions += u64::from(job.sequence().is_some());
            self.hold_sealed(&job);
            self.waiting.push(job);
        }
    }

    /// Takes a job out of the running ones: it holds no page and no record any more.
    fn leave(&mut self, id: SequenceId) -> Job {
        let mut job = self.running.remove(&id).expect("a leaving job runs");
        for need in &job.needs {
            let record = self.fragments.get_mut(need.id).expect("a record in use is known");
            record.users -= 1;
            record.used_at = self.now;
            if record.users == 0 && !record.is_cached() {
                self.discard(need.id);
            }
        }
        if let Some(sequence) = job.sequence_mut() {
            (sequence.rows, sequence.before_swap) = (0, None);
            for page in std::mem::take(&mut sequence.pages) {
                self.pages.release(page);
            }
        }
        self.leave_overlay(&mut job);
        job
    }

    /// A leaving job looks at no overlay and keeps no pages for one any more.
    fn leave_overlay(&mut self, job: &mut Job) {
        let repair = job.sequence_mut().and_then(|sequence| sequence.repair.as_mut());
        let Some(repair) = repair else { return };
        repair.restart();
        for page in std::mem::take(&mut repair.reserved) {
            self.pages.release(page);
        }
        let Some(id) = repair.overlay.take() else { return };
        let overlay = self.overlays.held_mut(id);
        overlay.users -= 1;
        overlay.used_at = self.now;
        if overlay.users == 0 && !overlay.is_whole() {
            self.remove_overlay(id);
        }
    }
}

/// Lets a sequence whose rows are chosen look at their overlay: the one that is there, or a new one
/// in the pages it keeps. Pages it keeps for nothing are free again.
fn look_at_overlay(
    overlays: &mut Overlays,
    pages: &mut Pages,
    sequence: &mut Sequence,
    (page_rows, now): (usize, u64),
) {
    let (Some(repair), Some(root)) = (&mut sequence.repair, &sequence.root) else { return };
    if repair.scoring().is_some() {
        return;
    }
    let mut kept = std::mem::take(&mut repair.reserved);
    if let Some(key) = repair.key(root, &sequence.placements) {
        let id = overlays.find(&key).unwrap_or_else(|| {
            let own = kept.drain(..repair.rows_max().div_ceil(page_rows)).collect();
            overlays.enter(key, (root, &sequence.placements), own, page_rows)
        });
        let overlay = overlays.held_mut(id);
        overlay.users += 1;
        overlay.used_at = now;
        repair.overlay = Some(id);
    }
    for page in kept {
        pages.release(page);
    }
}

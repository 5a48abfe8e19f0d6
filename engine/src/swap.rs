//! Swaps: a running generation gets other fragments in the place of some, between two decode steps.
//! One that has computed nothing of its own yet is composed anew, whether it has a place or waits for
//! one, and is as if it had been asked for with them.
//!
//! What was read is not unread: rows of the tail that are computed already saw what stood there
//! before, so an answer after a swap is nobody's plain concatenation, and its tail is not sealed. New
//! fragments stand from where the old ones began; everything else keeps its position, so a longer
//! one lies over what follows, as in the layout `parallel`, and a shorter one leaves a gap.

use crate::{
    Event, Placement, Request, RequestError, SequenceId,
    fragments::{Content, Fragments, Record},
    job::{Job, Reply},
    sequence::Sequence,
    state::State,
    validate::{check_alone, check_pages, check_request},
};
use models::{ModelShape, TokenId};
use std::{ops::Range, sync::Arc};

/// Other fragments for some of a generation's placements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// The generation.
    pub sequence: SequenceId,
    /// Placements that go.
    pub range: Range<usize>,
    /// Tokens of the clean fragments that stand there from now on. They must be cached, unless the
    /// generation waits for its first place.
    pub with: Vec<Arc<[TokenId]>>,
}

/// A swap that waits for its moment, and who asked.
pub(crate) struct Asked {
    pub(crate) tenant: Arc<str>,
    pub(crate) swap: Swap,
    pub(crate) reply: Reply<usize>,
}

impl State {
    /// Makes the swaps that were asked for, before a step: each when its generation stands between two
    /// decode steps, or has no row.
    pub(crate) fn make_swaps(&mut self) {
        for asked in std::mem::take(&mut self.swaps) {
            match self.swap(&asked) {
                // A caller that no longer waits needs no answer.
                Some(answer) => drop(asked.reply.send(answer)),
                None => self.swaps.push(asked),
            }
        }
    }

    /// `None`: later.
    fn swap(&mut self, Asked { tenant, swap, .. }: &Asked) -> Option<Result<usize, RequestError>> {
        let is_asked = |job: &&Job| job.id == swap.sequence && job.tenant == *tenant;
        let Some(job) = self.jobs().find(is_asked).filter(|job| !job.cancelled) else {
            return Some(Err(RequestError::NotRunning(swap.sequence)));
        };
        let Some(sequence) = job.sequence().filter(|sequence| sequence.closing.is_none()) else {
            return Some(Err(RequestError::NotRunning(swap.sequence)));
        };
        let contents = match sequence.swapped_in(&self.shape.fingerprint, swap) {
            Ok(contents) => contents,
            Err(error) => return Some(Err(error)),
        };
        if sequence.times.admitted.is_none() {
            return Some(self.compose_anew(swap, tenant));
        }
        if sequence.begins_anew() {
            let checked = self.check_swap(job, &contents);
            return Some(checked.and_then(|()| self.compose_in_place(swap)));
        }
        let is_between = sequence.rows == 0 || sequence.rows + 1 == sequence.own.len();
        if sequence.output().is_empty() || !is_between {
            return None;
        }
        let checked = sequence.check_end(swap).and_then(|()| self.check_swap(job, &contents));
        Some(checked.map(|()| self.swap_now(swap, contents)))
    }

    /// Puts fragments, cached or not, into a generation that never had a place.
    fn compose_anew(&mut self, swap: &Swap, tenant: &Arc<str>) -> Result<usize, RequestError> {
        let mut job = self.waiting.remove(tenant, swap.sequence).expect("what never ran waits");
        let before = sequence_of(&mut job).request.clone();
        let request = swap.asked_for(&before);
        let composed = check_request(&request, &self.shape, true).and_then(|()| {
            compose(&mut job, request, &self.shape);
            self.check_composed(&job)
        });
        if composed.is_err() {
            compose(&mut job, before, &self.shape);
        } else {
            job.cancelled |= !sequence_of(&mut job).stream.send(swap.event(0));
        }
        self.waiting.push(job);
        composed.map(|()| 0)
    }

    /// Puts cached fragments into a generation that has, or had, a place and no row of its own.
    fn compose_in_place(&mut self, swap: &Swap) -> Result<usize, RequestError> {
        let shape = self.shape.clone();
        let job = self.job_of(swap);
        let (before, needs) = (sequence_of(job).request.clone(), job.needs.clone());
        let request = swap.asked_for(&before);
        check_request(&request, &shape, true)?;
        compose(job, request, &shape);
        let job = self.jobs().find(|job| job.id == swap.sequence).expect("it waits or runs");
        let composed = self.check_composed(job);
        let job = self.job_of(swap);
        if composed.is_err() {
            compose(job, before, &shape);
            return composed.map(|()| 0);
        }
        job.needs = needs;
        sequence_of(job).recount_reused(&before, swap);
        Ok(self.stand_in(swap, |_| ()))
    }

    /// Refuses a composition that nothing could be put into later, or that never fits.
    fn check_composed(&self, job: &Job) -> Result<(), RequestError> {
        job.sequence().expect("only sequences are swapped in").root_of_swaps()?;
        check_alone(job, &self.shape)?;
        self.check_job(job)
    }

    /// Refuses fragments that are not there, and more of them than memory holds.
    fn check_swap(&self, job: &Job, contents: &[Content]) -> Result<(), RequestError> {
        let is_there =
            |content: &&Content| self.fragments.get(content.id).is_some_and(Record::is_cached);
        if let Some(missing) = contents.iter().find(|content| !is_there(content)) {
            return Err(RequestError::NotCached(missing.id));
        }
        if let Some(content) = contents.iter().find(|content| !self.fragments.agrees(content)) {
            return Err(RequestError::NotCached(content.id));
        }
        let page_rows = self.shape.page_rows;
        let more: usize = contents.iter().map(|content| content.pages(page_rows)).sum();
        let needed = self.pages_with_pins(job) + more;
        check_pages(needed, self.pages.total())
    }

    fn job_of(&mut self, swap: &Swap) -> &mut Job {
        let is_swapped = |job: &&mut Job| job.id == swap.sequence;
        self.jobs_mut().find(is_swapped).expect("it waits or runs")
    }

    fn swap_now(&mut self, swap: &Swap, contents: Vec<Content>) -> usize {
        self.stats.swaps += 1;
        self.stand_in(swap, |sequence| sequence.put_in(swap.range.clone(), contents))
    }

    /// Changes what a generation places, and who uses what. Returns how many tokens it has said.
    fn stand_in(&mut self, swap: &Swap, change: impl FnOnce(&mut Sequence)) -> usize {
        let job = self.job_of(swap);
        let sequence = sequence_of(job);
        let at = sequence.output().len();
        let mut heard = sequence.stream.send(swap.event(at));
        change(sequence);
        if sequence.rows == 0 {
            // It gave its place back: all that it will compute sees what is placed now.
            sequence.before_swap = None;
            heard = heard && (at == 0 || sequence.stream.send(Event::Restarted { at }));
        }
        let needs = Job::needs_of(sequence);
        job.cancelled |= !heard;
        let before = std::mem::replace(&mut job.needs, needs.clone());
        if self.running.contains_key(&swap.sequence) {
            self.hold_others(&needs, &before);
        }
        at
    }

    /// A running job needs these records in the place of those.
    fn hold_others(&mut self, needs: &[Content], before: &[Content]) {
        hold(&mut self.fragments, needs, before, self.now, 1);
        hold(&mut self.fragments, before, needs, self.now, -1);
        for gone in before {
            // What was not whole yet is nobody's work any more.
            let record = self.fragments.held(gone.id);
            if record.users == 0 && !record.is_cached() {
                self.discard(gone.id);
            }
        }
    }
}

impl Swap {
    /// A request as it is with what is swapped in.
    fn asked_for(&self, before: &Request) -> Request {
        let mut request = before.clone();
        let with = self.with.iter().map(|tokens| Placement::from(Arc::clone(tokens)));
        request.composition.placements.splice(self.range.clone(), with);
        request
    }

    fn event(&self, at: usize) -> Event {
        Event::Swapped { range: self.range.clone(), with: self.with.clone(), at }
    }
}

fn refused(given: String, expected: &'static str) -> RequestError {
    RequestError::OutOfRange { name: "swap", given, expected }
}

fn sequence_of(job: &mut Job) -> &mut Sequence {
    job.sequence_mut().expect("only sequences are swapped in")
}

fn compose(job: &mut Job, request: Request, shape: &ModelShape) {
    let sequence = sequence_of(job);
    sequence.request = request;
    sequence.compose(shape);
    job.needs = Job::needs_of(sequence_of(job));
}

/// Records of `these` that are not among `others` get a user more, or lose one.
fn hold(fragments: &mut Fragments, these: &[Content], others: &[Content], now: u64, by: isize) {
    for content in these.iter().filter(|it| !others.iter().any(|other| other.id == it.id)) {
        let record = fragments.get_mut(content.id).expect("a record that is placed is known");
        record.users = record.users.checked_add_signed(by).expect("users are counted");
        record.used_at = now;
    }
}

impl Sequence {
    /// The records that a swap puts in.
    fn swapped_in(
        &self,
        fingerprint: &[u8; 32],
        swap: &Swap,
    ) -> Result<Vec<Content>, RequestError> {
        let Swap { range, with, .. } = swap;
        let root = self.root_of_swaps()?;
        if range.start > range.end || range.end > self.placements.len() {
            let given = format!("{}..{}", range.start, range.end);
            return Err(refused(given, "a range of the composition's placements"));
        }
        if self.placements[range.clone()].iter().any(Content::is_sealed) {
            return Err(refused("a sealed fragment".to_owned(), "in the place of clean ones"));
        }
        Ok(with.iter().map(|tokens| Content::after(fingerprint, root, tokens)).collect())
    }

    /// Nothing of its own that saw anything is there, or was told.
    fn begins_anew(&self) -> bool {
        self.output().is_empty() && self.scores.is_empty() && self.rows == 0
    }

    /// The root that what is put in stands after.
    fn root_of_swaps(&self) -> Result<&Content, RequestError> {
        let repair = self.repair.as_ref().filter(|repair| repair.changes_nothing());
        repair.and(self.root.as_ref()).ok_or_else(|| {
            let expected =
                "of a generation after a root, under a policy that computes no rows again";
            refused(self.request.policy.to_string(), expected)
        })
    }

    /// Refuses fragments that would hide rows from the next one, by standing after it.
    fn check_end(&self, swap: &Swap) -> Result<(), RequestError> {
        let tokens: usize = swap.with.iter().map(|tokens| tokens.len()).sum();
        if self.start_of(swap.range.start) + tokens < self.own_start + self.own.len() {
            return Ok(());
        }
        Err(refused(format!("{tokens} tokens"), "fragments that end before the next row"))
    }

    /// Where a placement begins, or the sequence's own run behind the last.
    fn start_of(&self, placement: usize) -> usize {
        self.starts.get(placement).map_or(self.own_start, |&start| start as usize)
    }

    fn put_in(&mut self, range: Range<usize>, contents: Vec<Content>) {
        self.note_before_swap();
        let mut start = self.start_of(range.start) as u32;
        let is_sequential = self.is_sequential();
        let starts: Vec<u32> = contents
            .iter()
            .map(|content| {
                let at = start;
                start += if is_sequential { content.tokens.len() as u32 } else { 0 };
                at
            })
            .collect();
        self.starts.splice(range.clone(), starts);
        self.placements.splice(range, contents);
        self.swaps += 1;
    }
}

//! The loop: receive, plan, run, commit.

use crate::{
    Clock, FragmentInfo, RequestError, Stats,
    board::{Board, Message},
    job::{Job, Work},
    limits::{Budget, MESSAGES_PER_STEP, PIN_SHARE},
    plan::Plan,
    runner::{Outcome, Runner},
    scheduler,
    state::State,
    stored::{Ask, content_of},
    tier::Tier,
};
use kernels::PageId;
use std::{
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError},
    },
    time::Duration,
};

/// While nothing goes on before the tier speaks, messages are looked for this often.
const TIER_WAIT: Duration = Duration::from_millis(5);

/// The engine without its thread: whoever holds it drives it step by step. The engine's thread
/// does, and so does the simulator.
pub struct Core {
    state: State,
    runner: Runner,
    budget: Budget,
    /// What the step at hand does and gave; between steps, only memory that is used again.
    plan: Plan,
    outcome: Outcome,
    clock: Arc<dyn Clock>,
    inbox: Receiver<Message>,
    board: Arc<Board>,
    tier: Option<Box<dyn Tier>>,
    /// The latest step had nothing to do before the tier speaks.
    is_waiting: bool,
    /// When shutting down: the moment after which what still runs is cancelled.
    closing: Option<Duration>,
}

impl Core {
    pub(crate) fn new(
        runner: Runner,
        budget: Budget,
        clock: Arc<dyn Clock>,
        inbox: Receiver<Message>,
        board: Arc<Board>,
        tier: Option<Box<dyn Tier>>,
    ) -> Self {
        let state = State::new(runner.shape().clone(), board.clone());
        let (plan, outcome) = (Plan::default(), Outcome::default());
        let (is_waiting, closing) = (false, None);
        let mut core = Self {
            state,
            runner,
            budget,
            plan,
            outcome,
            clock,
            inbox,
            board,
            tier,
            is_waiting,
            closing,
        };
        core.open_tier();
        core.board.publish(&core.stats());
        core
    }

    /// Learns what the tier keeps: those fragments are known by their identity from here on.
    fn open_tier(&mut self) {
        let Some(tier) = &mut self.tier else { return };
        let fingerprint = self.state.shape.fingerprint;
        let entries = tier.entries();
        let mut contents: Vec<_> = entries
            .iter()
            .filter_map(|entry| Some((content_of(&fingerprint, entry)?, entry.pinned)))
            .collect();
        let kept = contents.iter().map(|(content, _)| content.id);
        self.state.stored.open(kept, tier.unlisted_rows_min());
        // The most recently used ones, where there are more than may be known; and as many pins as
        // would be granted.
        let surplus = contents.len().saturating_sub(self.budget.fragments);
        let mut room = self.state.shape.pages / PIN_SHARE;
        for (content, pinned) in contents.drain(surplus..) {
            let pages = content.pages(self.state.shape.page_rows);
            let pinned = pinned && pages <= room;
            room -= if pinned { pages } else { 0 };
            self.state.now += 1;
            self.state.fragments.intern(&content, self.state.now).pinned = pinned;
        }
    }

    /// Lets the tier write what waits to be written.
    pub(crate) fn close_tier(&mut self) {
        if let Some(tier) = &mut self.tier {
            tier.close();
        }
    }

    /// One step. Answers `false` when nothing is left to do until a message comes.
    ///
    /// # Panics
    /// When the books are wrong; the engine is then dead for good.
    pub fn step(&mut self) -> bool {
        self.receive();
        let Self { state, plan, outcome, .. } = self;
        scheduler::plan(state, &self.budget, plan);
        self.is_waiting = plan.is_idle() && state.stored.is_awaited();
        let is_busy = !plan.is_empty() || self.is_waiting;
        assert!(state.is_idle() || is_busy, "jobs are there, but nothing to do");
        self.runner.run(plan, state, outcome);
        state.commit(plan, outcome, self.clock.now());
        self.tell_tier();
        self.board.publish(&self.stats());
        !(self.state.is_idle() && self.state.stored.is_idle())
    }

    /// Offers the tier what was read for it, and asks it what the commit wants.
    fn tell_tier(&mut self) {
        let Some(tier) = &mut self.tier else { return };
        let State { fragments, stored, .. } = &mut self.state;
        for ask in stored.asks() {
            match ask {
                Ask::Fetch(id) => tier.fetch(fragments.held(id).entry()),
                Ask::Expect(entry) => tier.expect(*entry),
                Ask::Remove(id, rows) => tier.remove(id, rows),
                Ask::Pin(id) => tier.pin(id, true),
            }
        }
        let kept = self.plan.keep.zip(self.outcome.kept.take());
        let Some((id, kv)) = kept else { return };
        // It may have been dropped in this very step.
        let Some(record) = fragments.get(id) else { return };
        stored.answered(id, tier.keep(record.entry(), Arc::new(kv)));
    }

    /// What the next step would do, as text.
    pub fn plan_text(&mut self) -> String {
        self.receive();
        scheduler::plan(&self.state, &self.budget, &mut self.plan);
        self.plan.to_string()
    }

    /// Pages nobody owns: their content means nothing.
    pub fn pages_free(&self) -> Vec<PageId> {
        self.state.pages.free().iter().copied().collect()
    }

    /// Panics unless free and owned pages are all pages, every page has as many owners as it
    /// counts, and users of fragments are those that run.
    pub fn check_integrity(&self) {
        self.state.check_integrity();
    }

    /// The numbers as they are now.
    pub fn stats(&self) -> Stats {
        let Some(of) = self.tier.as_deref() else { return self.state.stats() };
        let (tier, tier_host, tier_shared) = (of.figures(), of.figures_host(), of.figures_shared());
        Stats { tier, tier_host, tier_shared, ..self.state.stats() }
    }

    /// Steps until shut down, or until no handle is left and nothing runs. Blocks when idle.
    pub(crate) fn run(&mut self) {
        loop {
            if self.step() {
                let notice = self.tier.as_mut().filter(|_| self.is_waiting);
                if let Some(notice) = notice.and_then(|tier| tier.wait(TIER_WAIT)) {
                    self.state.hear(notice);
                }
                continue;
            }
            self.check_integrity();
            if self.closing.is_some() {
                return;
            }
            match self.inbox.recv() {
                Ok(message) => self.take(message),
                Err(_) => return,
            }
        }
    }

    /// Takes a bounded number of messages, and of notices, and makes the swaps that are due.
    fn receive(&mut self) {
        for _ in 0..MESSAGES_PER_STEP {
            let Some(notice) = self.tier.as_mut().and_then(|tier| tier.poll()) else { break };
            self.state.hear(notice);
        }
        for _ in 0..MESSAGES_PER_STEP {
            match self.inbox.try_recv() {
                Ok(message) => self.take(message),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        if self.closing.is_some_and(|deadline| self.clock.now() >= deadline) {
            self.state.jobs_mut().for_each(|job| job.cancelled = true);
        }
        // Ahead of the step, not behind it: what is asked for now is read by the very next tokens.
        self.state.make_swaps();
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Submit(job) => self.submit(*job),
            Message::Cancel(id) => {
                if let Some(job) = self.state.jobs_mut().find(|job| job.id == id) {
                    job.cancelled = true;
                }
            }
            Message::Inspect { tenant, id, digest, reply } => {
                let found = self.inspect(&tenant, id, digest);
                let _ = reply.send(found.ok_or(RequestError::UnknownFragment(id)));
            }
            Message::List { tenant, reply } => {
                let _ = reply.send(Ok(self.list(&tenant)));
            }
            Message::Drop { tenant, id, reply } => match self.inspect(&tenant, id, false) {
                None => drop(reply.send(Err(RequestError::UnknownFragment(id)))),
                Some(info) if info.users > 0 => {
                    drop(reply.send(Err(RequestError::InUse(id, info.users))));
                }
                Some(_) => self.state.drops.push((id, reply)),
            },
            Message::Swap(asked) => self.state.swaps.push(asked),
            Message::Ping(reply) => drop(reply.send(Ok(()))),
            Message::Shutdown { grace } => {
                self.closing.get_or_insert(self.clock.now() + grace);
            }
        }
    }

    /// Lets a job wait for a place, unless it could never have one.
    fn submit(&mut self, mut job: Job) {
        if let Err(error) = self.state.check_job(&job) {
            match &mut job.work {
                Work::Put(put) => drop(put.reply.send(Err(error))),
                Work::Generate(sequence) => {
                    self.board.leave();
                    self.state.stats.generations_ended += 1;
                    sequence.stream.end(crate::Event::Failed(error));
                }
            }
            return;
        }
        if let Work::Put(put) = &job.work
            && let Some(info) = self.state.hit(&job.subject().clone(), put.pin)
        {
            let _ = put.reply.send(Ok(info));
            return;
        }
        self.state.hold_sealed(&job);
        self.state.expect_cold(&job);
        self.state.waiting.push(job);
    }

    fn inspect(&self, tenant: &str, id: crate::FragmentId, digest: bool) -> Option<FragmentInfo> {
        let record = self.state.fragments.get(id).filter(|r| &*r.content.tenant == tenant)?;
        let mut info = self.state.info(id)?;
        if digest && record.is_cached() {
            info.digest = Some(self.runner.digest(&record.pages, record.encoded));
        }
        Some(info)
    }

    /// A tenant's fragments, most recently used first.
    fn list(&self, tenant: &str) -> Vec<FragmentInfo> {
        let records = self.state.fragments.iter();
        let mut own: Vec<_> = records.filter(|r| &*r.content.tenant == tenant).collect();
        own.sort_by_key(|record| std::cmp::Reverse((record.used_at, record.content.id)));
        own.iter().filter_map(|record| self.state.info(record.content.id)).collect()
    }
}

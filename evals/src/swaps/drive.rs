//! Drives an engine step by step in this thread, so that a swap takes place behind an exact token of
//! an answer.

use crate::{
    arm::{Joined, KV},
    backend::{Card, Loaded},
};
use anyhow::{Context as _, anyhow, bail, ensure};
use engine::{
    Composition, Config, Core, Engine, Event, FragmentSpec, Priority, Request, RequestError,
    Sampling, SequenceId, Swap, TokenLogprob,
};
use models::TokenId;
use std::{
    ops::Range,
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
};

/// Generations that run at once: decodes of a batch read the weights once.
const RUNNING_MAX: usize = 16;
/// Generations of a story that may wait for a place.
const WAITING_MAX: usize = 4_096;

/// One greedy generation with its swaps.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) joined: Joined,
    pub(crate) tail: Vec<TokenId>,
    /// The answer's first tokens, given instead of chosen.
    pub(crate) forced: Vec<TokenId>,
    pub(crate) max_tokens: usize,
    /// Alternatives to report.
    pub(crate) logprobs: Option<usize>,
    /// In order.
    pub(crate) swaps: Vec<Due>,
}

/// A swap that is due.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Due {
    /// Tokens of the answer before it; at least one, and fewer than are forced.
    pub(crate) at: usize,
    /// Placements that go.
    pub(crate) range: Range<usize>,
    /// Tokens of the fragments that come.
    pub(crate) with: Vec<Arc<[TokenId]>>,
}

impl Run {
    /// Positions that it takes at most.
    pub(crate) fn positions(&self) -> usize {
        let Joined { root, placements, .. } = &self.joined;
        let placed: usize = placements.iter().map(|tokens| tokens.len()).sum();
        root.len() + placed + self.tail.len() + self.max_tokens
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ran {
    pub(crate) tokens: Vec<TokenId>,
    /// Scores of its tokens, when they were asked for.
    pub(crate) scores: Vec<TokenLogprob>,
    /// Tokens of the answer before each swap, as the engine told them.
    pub(crate) swapped: Vec<usize>,
}

/// An engine without a thread.
pub(crate) struct Stepped {
    engine: Engine,
    core: Core,
    end_tokens: Vec<TokenId>,
    pub(crate) card: Card,
}

impl Stepped {
    /// Fetches and loads a model. `threads`: 0 means one for each physical core.
    pub(crate) fn open(model: &str, threads: usize) -> anyhow::Result<Self> {
        let Loaded { decoder, tokenizer, card, clock } = Loaded::open(model, threads, KV)?;
        let end_tokens = tokenizer.end_tokens().to_vec();
        let config =
            Config { waiting_max: WAITING_MAX, running_max: RUNNING_MAX, ..Config::default() };
        let (engine, core) = Engine::stepwise(decoder, Some(tokenizer), config, clock, None);
        Ok(Self { engine, core, end_tokens, card })
    }

    /// Encodes fragments that are not cached.
    pub(crate) fn encode<'a>(
        &mut self,
        tenant: &str,
        root: &Arc<[TokenId]>,
        fragments: impl Iterator<Item = &'a Arc<[TokenId]>>,
    ) -> anyhow::Result<()> {
        let mut answers = Vec::new();
        for tokens in fragments {
            let (root, tokens) = (Arc::clone(root), Arc::clone(tokens));
            let (tenant, priority) = (tenant.into(), Priority::Normal);
            let spec = FragmentSpec { tenant, root, tokens, pin: false, priority };
            answers.push(self.engine.begin_put(spec)?);
        }
        while self.core.step() {}
        for answer in answers {
            answer.try_recv().context("a fragment was not encoded")??;
        }
        Ok(())
    }

    /// Runs all to their ends, side by side. What is swapped in must be encoded already.
    ///
    /// # Errors
    /// A request or a swap is refused, or a swap took place behind another token than it was due.
    pub(crate) fn run(&mut self, tenant: &str, runs: &[Run]) -> anyhow::Result<Vec<Ran>> {
        let begun = runs.iter().map(|run| self.begin(tenant, run));
        let mut running = begun.collect::<anyhow::Result<Vec<_>>>()?;
        loop {
            for running in &mut running {
                running.ask(&self.engine, tenant)?;
            }
            let goes_on = self.core.step();
            for running in &mut running {
                running.hear()?;
            }
            if running.iter().all(|running| running.has_ended) {
                return Ok(running.into_iter().map(|running| running.ran).collect());
            }
            ensure!(goes_on, "the engine stopped before the answers ended");
        }
    }

    fn begin<'a>(&self, tenant: &str, run: &'a Run) -> anyhow::Result<Running<'a>> {
        let Joined { policy, root, placements, .. } = run.joined.clone();
        let placements = placements.into_iter().map(Into::into).collect();
        let request = Request {
            tenant: tenant.into(),
            composition: Composition { root, placements, tail: run.tail.clone() },
            policy,
            selected: None,
            sampling: Sampling { forced: run.forced.clone(), ..Sampling::greedy() },
            stop_tokens: self.end_tokens.clone(),
            stop_strings: Vec::new(),
            max_tokens: run.max_tokens,
            logprobs: run.logprobs,
            echo: false,
            priority: Priority::Normal,
            seal: None,
        };
        let (sender, events) = mpsc::channel();
        let id = self.engine.submit(request, Box::new(move |event| sender.send(event).is_ok()))?;
        Ok(Running { run, id, events, asked: Vec::new(), ran: Ran::default(), has_ended: false })
    }
}

/// A run under way.
struct Running<'a> {
    run: &'a Run,
    id: SequenceId,
    events: Receiver<Event>,
    /// Answers to the swaps asked for so far.
    asked: Vec<Receiver<Result<usize, RequestError>>>,
    ran: Ran,
    has_ended: bool,
}

impl Running<'_> {
    /// Asks for the next swap behind the step that gave the last token in front of it: swaps are made
    /// ahead of a step.
    fn ask(&mut self, engine: &Engine, tenant: &str) -> anyhow::Result<()> {
        let Some(due) = self.run.swaps.get(self.asked.len()) else { return Ok(()) };
        if self.ran.tokens.len() == due.at {
            let (range, with) = (due.range.clone(), due.with.clone());
            let swap = Swap { sequence: self.id, range, with };
            self.asked.push(engine.begin_swap(tenant, swap)?);
        }
        Ok(())
    }

    fn hear(&mut self) -> anyhow::Result<()> {
        if let Some(Ok(Err(error))) = self.asked.last().map(Receiver::try_recv) {
            return Err(error).context("a swap was refused");
        }
        for event in self.events.try_iter() {
            match event {
                Event::Chosen { .. } | Event::Scored { .. } => {}
                Event::Token { token, logprob, .. } => {
                    self.ran.tokens.push(token);
                    self.ran.scores.extend(logprob);
                }
                Event::Swapped { at, .. } => {
                    let due = self.run.swaps.get(self.ran.swapped.len()).map(|due| due.at);
                    ensure!(due == Some(at), "a swap was due at {due:?} and took place at {at}");
                    self.ran.swapped.push(at);
                }
                Event::Restarted { at } => {
                    bail!("computed again after {at} tokens: too little memory")
                }
                Event::Finished { .. } => self.has_ended = true,
                Event::Failed(error) => return Err(anyhow!(error)),
            }
        }
        let (made, due) = (self.ran.swapped.len(), self.run.swaps.len());
        ensure!(!self.has_ended || made == due, "{made} of {due} swaps took place");
        Ok(())
    }
}

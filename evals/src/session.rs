//! A loaded model behind an engine, and the score of a tail over a composition.

use anyhow::{Context as _, anyhow};
use engine::{
    Clock, Composition, Config, Engine, Event, JoinPolicy, Request, Sampling, TokenLogprob,
};
use models::{LoadOptions, TokenId, Turns, catalogue};
use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

/// Nothing here is timed.
struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

/// An engine over one model.
pub(crate) struct Session {
    engine: Engine,
    pub(crate) turns: Turns,
}

impl Session {
    /// Fetches and loads a model.
    pub(crate) fn open(model: &str) -> anyhow::Result<Self> {
        let path = catalogue::fetch(model, &mut catalogue::Quiet)?;
        let loaded = models::load(&path, &LoadOptions::default())?;
        let (decoder, tokenizer) = (Box::new(loaded.decoder), Some(loaded.tokenizer));
        let engine = Engine::start(decoder, tokenizer, Config::default(), Arc::new(Still));
        Ok(Self { engine, turns: loaded.turns })
    }

    /// Log-probabilities of `tail[1..]`.
    pub(crate) fn score(
        &self,
        placements: &[Arc<[TokenId]>],
        tail: &[TokenId],
        policy: JoinPolicy,
    ) -> anyhow::Result<Vec<TokenLogprob>> {
        let (sender, events) = mpsc::channel();
        let root = self.turns.default_root().into();
        let request = Request {
            tenant: "eval".into(),
            composition: Composition { root, placements: placements.into(), tail: tail.to_vec() },
            policy,
            selected: None,
            sampling: Sampling::greedy(),
            stop_tokens: Vec::new(),
            stop_strings: Vec::new(),
            max_tokens: 0,
            logprobs: Some(1),
            echo: true,
        };
        self.engine.submit(request, Box::new(move |event| sender.send(event).is_ok()))?;
        match events.recv_timeout(Duration::from_mins(10)).context("the engine fell silent")? {
            Event::Scored { tail, .. } => Ok(tail),
            Event::Failed(error) => Err(anyhow!(error)),
            other => Err(anyhow!("scores come first, not {other:?}")),
        }
    }
}

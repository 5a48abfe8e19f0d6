//! The engine in this process: one for each format of KV.

use super::{Answer, Backend, Call, Card};
use crate::{
    arm::{Arm, Joined, KV},
    clock::Monotonic,
    prompt,
};
use anyhow::{Context as _, anyhow};
use engine::{Composition, Config, Engine, Event, FragmentSpec, Priority, Request, Sampling};
use models::{KvDtype, LoadOptions, Model, TokenId, Tokenizer};
use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    time::Duration,
};

/// Longest time without a step of the engine before a run gives up.
const SILENCE_MAX: Duration = Duration::from_mins(15);

/// A model loaded for an engine in this process.
pub(crate) struct Loaded {
    pub(crate) decoder: Box<dyn Model>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) card: Card,
    pub(crate) clock: Arc<Monotonic>,
}

impl Loaded {
    /// Fetches and loads a model. `threads`: 0 means one for each physical core.
    pub(crate) fn open(model: &str, threads: usize, kv_dtype: KvDtype) -> anyhow::Result<Self> {
        let options = LoadOptions { threads, kv_dtype, ..LoadOptions::default() };
        let loaded = models::load(&prompt::path(model)?, &options)?;
        let threads = if threads == 0 { models::physical_cores() } else { threads };
        let (decoder, tokenizer) = (Box::new(loaded.decoder), loaded.tokenizer);
        let shape = decoder.shape();
        let card = Card {
            name: model.to_owned(),
            fingerprint: hex(&shape.fingerprint),
            context_max: shape.context_max,
            through: "engine".to_owned(),
            isa: Some(loaded.info.isa),
            threads: Some(threads),
        };
        Ok(Self { decoder, tokenizer, card, clock: Arc::new(Monotonic::start()) })
    }
}

/// Engines over a loaded model.
pub(crate) struct Local {
    /// That of [`KV`] first.
    engines: Vec<(KvDtype, Engine)>,
    end_tokens: Vec<TokenId>,
    card: Card,
}

impl Local {
    /// Fetches and loads a model, once for each format of KV that the arms name.
    pub(crate) fn open(model: &str, threads: usize, arms: &[Arm]) -> anyhow::Result<Self> {
        let start = |Loaded { decoder, tokenizer, clock, .. }| {
            Engine::start(decoder, Some(tokenizer), Config::default(), clock)
        };
        let loaded = Loaded::open(model, threads, KV)?;
        let (end_tokens, card) = (loaded.tokenizer.end_tokens().to_vec(), loaded.card.clone());
        let mut engines = vec![(KV, start(loaded))];
        for arm in arms {
            if engines.iter().all(|(kv, _)| *kv != arm.kv) {
                engines.push((arm.kv, start(Loaded::open(model, threads, arm.kv)?)));
            }
        }
        Ok(Self { engines, end_tokens, card })
    }

    fn engine(&self, kv: KvDtype) -> &Engine {
        let found = self.engines.iter().find(|(own, _)| *own == kv);
        &found.expect("an engine for every arm").1
    }
}

/// The next event, waited for as long as the engine steps: a long prefill on a busy machine is silent.
fn next(engine: &Engine, events: &Receiver<Event>) -> anyhow::Result<Event> {
    loop {
        let steps = engine.stats().steps;
        match events.recv_timeout(SILENCE_MAX) {
            Err(RecvTimeoutError::Timeout) if engine.stats().steps > steps => {}
            event => return event.context("the engine fell silent"),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from_digit(u32::from(digit), 16).expect("a half byte")).collect()
}

impl Backend for Local {
    fn card(&self) -> &Card {
        &self.card
    }

    fn encode(&mut self, tenant: &str, joined: &Joined) -> anyhow::Result<()> {
        for tokens in &joined.placements {
            self.engine(joined.kv).put_fragment(FragmentSpec {
                tenant: tenant.into(),
                root: joined.root.clone(),
                tokens: tokens.clone(),
                priority: Priority::Normal,
                pin: false,
            })?;
        }
        Ok(())
    }

    fn generate(&mut self, call: &Call<'_>) -> anyhow::Result<Answer> {
        let (sender, events) = mpsc::channel();
        let Joined { kv, policy, root, placements } = call.joined.clone();
        let request = Request {
            tenant: call.tenant.into(),
            composition: Composition {
                root,
                placements: placements.into_iter().map(Into::into).collect(),
                tail: call.tail.to_vec(),
            },
            policy,
            selected: None,
            sampling: Sampling { forced: call.forced.to_vec(), ..Sampling::greedy() },
            stop_tokens: self.end_tokens.clone(),
            stop_strings: Vec::new(),
            max_tokens: call.max_tokens,
            logprobs: call.logprobs,
            echo: false,
            priority: Priority::Normal,
            seal: None,
        };
        self.engine(kv).submit(request, Box::new(move |event| sender.send(event).is_ok()))?;
        let mut answer = Answer::default();
        loop {
            match next(self.engine(kv), &events)? {
                Event::Chosen { .. }
                | Event::Scored { .. }
                | Event::Swapped { .. }
                | Event::Restarted { .. } => {}
                Event::Token { token, logprob, .. } => {
                    answer.tokens.push(token);
                    answer.scores.extend(logprob);
                }
                Event::Finished { summary, .. } => {
                    answer.exact = summary.exact;
                    answer.reused = summary.counts.reused;
                    answer.encoded = summary.counts.encoded;
                    answer.prefix_reused = summary.counts.prefix_reused;
                    answer.recomputed_share = summary.recomputed_share;
                    answer.first_token_ms = summary.timings.first_token_ms;
                    return Ok(answer);
                }
                Event::Failed(error) => return Err(anyhow!(error)),
            }
        }
    }

    fn has_tenants(&self) -> bool {
        true
    }
}

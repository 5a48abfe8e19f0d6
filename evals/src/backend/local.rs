//! The engine in this process.

use super::{Answer, Backend, Call, Card};
use crate::{arm::Joined, clock::Monotonic, prompt};
use anyhow::{Context as _, anyhow};
use engine::{Composition, Config, Engine, Event, FragmentSpec, Priority, Request, Sampling};
use models::{LoadOptions, TokenId};
use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

/// Longest silence of the engine before a run gives up.
const SILENCE_MAX: Duration = Duration::from_mins(15);

/// An engine over a loaded model.
pub(crate) struct Local {
    engine: Engine,
    end_tokens: Vec<TokenId>,
    card: Card,
}

impl Local {
    /// Fetches and loads a model.
    pub(crate) fn open(model: &str, threads: usize) -> anyhow::Result<Self> {
        let options = LoadOptions { threads, ..LoadOptions::default() };
        let loaded = models::load(&prompt::path(model)?, &options)?;
        let threads = if threads == 0 { models::physical_cores() } else { threads };
        let (decoder, tokenizer) = (Box::new(loaded.decoder), loaded.tokenizer);
        let end_tokens = tokenizer.end_tokens().to_vec();
        let clock = Arc::new(Monotonic::start());
        let engine = Engine::start(decoder, Some(tokenizer), Config::default(), clock);
        let shape = engine.shape();
        let card = Card {
            name: model.to_owned(),
            fingerprint: hex(&shape.fingerprint),
            context_max: shape.context_max,
            through: "engine".to_owned(),
            isa: Some(loaded.info.isa),
            threads: Some(threads),
        };
        Ok(Self { engine, end_tokens, card })
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
            self.engine.put_fragment(FragmentSpec {
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
        let Joined { policy, root, placements } = call.joined.clone();
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
        self.engine.submit(request, Box::new(move |event| sender.send(event).is_ok()))?;
        let mut answer = Answer::default();
        loop {
            match events.recv_timeout(SILENCE_MAX).context("the engine fell silent")? {
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

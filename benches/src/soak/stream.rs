//! One stream: read to its end, or left before, with a look at the clock at every token.

use super::{
    World,
    api::Events,
    ask::Ask,
    now,
    outcome::{Ended, Outcome},
    texts::Random,
};
use reqwest::Response;
use serde::Deserialize;
use std::{sync::Arc, time::Instant};
use tokio::task::JoinHandle;

/// How a client leaves a stream, after so many tokens.
#[derive(Clone, Copy)]
pub(crate) enum Leave {
    /// Not before its end.
    Never,
    /// By asking for its end.
    Cancel(usize),
    /// By closing the connection.
    HangUp(usize),
}

impl Leave {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let tokens = random.below(12);
        match random.below(100) {
            0..20 => Self::Cancel(tokens),
            20..32 => Self::HangUp(tokens),
            _ => Self::Never,
        }
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    token: Option<u32>,
    text: Option<String>,
    /// Of swaps: tokens that were there before.
    at_token: Option<usize>,
    generation: Option<Outcome>,
}

/// A cancel on its way: when it was sent and when it was answered.
type Cancel = JoinHandle<(Instant, Instant)>;

/// What came so far.
#[derive(Default)]
struct Heard {
    id: String,
    tokens: Vec<u32>,
    text: String,
    latest: Option<Instant>,
    cancel: Option<Cancel>,
    swaps: usize,
    /// The last event but `[DONE]`, and when it came.
    end: Option<(Outcome, Instant)>,
    /// It failed: the sealed fragment in it was lost.
    is_lost: bool,
    /// What must not be.
    wrong: Option<(&'static str, String)>,
}

/// Reads a stream that was asked for at `sent`.
pub(crate) async fn follow(
    world: &Arc<World>,
    response: Response,
    ask: &Ask,
    sent: Instant,
    leave: Leave,
) -> Ended {
    let mut events = Events::new(response);
    let mut heard = Heard::default();
    while heard.wrong.is_none() {
        match events.next().await {
            Ok(Some(data)) if data == "[DONE]" => break,
            Ok(Some(data)) => heard.take(world, ask, &data, sent),
            Ok(None) => heard.wrong = Some(("a stream that broke off", heard.text.clone())),
            Err(error) => heard.wrong = Some(("a stream that broke off", format!("{error:?}"))),
        }
        match leave {
            Leave::HangUp(after) if heard.goes_on_after(after) => return Ended::Otherwise,
            Leave::Cancel(after) if heard.goes_on_after(after) && heard.cancel.is_none() => {
                let (world, id) = (Arc::clone(world), heard.id.clone());
                heard.cancel = Some(tokio::spawn(async move { cancel(&world, &id).await }));
            }
            _ => {}
        }
    }
    heard.finish(world, ask).await
}

async fn cancel(world: &World, id: &str) -> (Instant, Instant) {
    let (sent, path) = (now(), format!("/v1/generations/{id}/cancel"));
    let reply = world.api.call("POST", &path, None).await;
    let answered = now();
    world.accept("cancel", &path, reply, &[]).await;
    (sent, answered)
}

impl Heard {
    fn goes_on_after(&self, tokens: usize) -> bool {
        self.end.is_none() && !self.is_lost && !self.id.is_empty() && self.tokens.len() >= tokens
    }

    fn take(&mut self, world: &World, ask: &Ask, data: &str, sent: Instant) {
        let at = now();
        let Ok(event) = serde_json::from_str::<Event>(data) else {
            self.wrong = Some(("an event that is none", data.to_owned()));
            return;
        };
        self.text.push_str(event.text.as_deref().unwrap_or_default());
        match (event.kind.as_str(), event.token, event.generation) {
            ("generation.created", _, Some(generation)) => {
                self.id = generation.answer.id;
            }
            ("generation.token", Some(token), _) => {
                self.tokens.push(token);
                let ms = at.duration_since(self.latest.unwrap_or(sent)).as_secs_f64() * 1e3;
                let mut tally = world.tally();
                tally.hear(at);
                tally.tokens += 1;
                match self.latest.replace(at) {
                    None => tally.times.first_token.push(ms),
                    Some(_) => tally.times.between_tokens.push(ms),
                }
            }
            ("generation.text", ..) => {}
            ("generation.swapped", ..) if self.is_now(ask, event.at_token) => self.swaps += 1,
            ("generation.restarted", ..) if self.is_now(ask, event.at_token) => {}
            ("error", ..) if ask.has_lost(data) => self.is_lost = true,
            ("generation.completed" | "generation.cancelled", _, Some(generation)) => {
                self.end = Some((generation, at));
            }
            _ => self.wrong = Some(("an event that must not be", data.to_owned())),
        }
    }

    /// Something that happens to answers over a clock, at the token that it says.
    fn is_now(&self, ask: &Ask, at_token: Option<usize>) -> bool {
        ask.clock.is_some() && at_token == Some(self.tokens.len())
    }

    /// Checks the end against what came before it, and the whole against other answers.
    async fn finish(self, world: &World, ask: &Ask) -> Ended {
        let times = match self.cancel {
            Some(cancel) => cancel.await.ok(),
            None => None,
        };
        let request = ask.body.to_string();
        if let Some((what, response)) = self.wrong {
            world.tally().violate(what, &request, &response);
            return Ended::Otherwise;
        }
        if self.is_lost {
            return Ended::Lost;
        }
        let Some((outcome, ended)) = self.end else {
            world.tally().violate("a stream without an end", &request, &self.text);
            return Ended::Otherwise;
        };
        let (answer, is_cancelled) = (&outcome.answer, outcome.is_cancelled());
        let is_same = answer.tokens == self.tokens && answer.text == self.text;
        if !is_same || outcome.swaps.len() != self.swaps {
            let (end, swaps) = (&answer.text, outcome.swaps.len());
            let (before, heard) = (&self.text, self.swaps);
            let both =
                format!("{end:?}, {swaps} swaps at its end, {before:?}, {heard} swaps before");
            world.tally().violate("a stream whose end is another", &request, &both);
        }
        match times.filter(|_| is_cancelled) {
            Some((sent, answered)) => {
                let ms = |at: Instant| at.saturating_duration_since(sent).as_secs_f64() * 1e3;
                let mut tally = world.tally();
                tally.times.cancel_to_end.push(ms(ended));
                tally.times.cancel_to_answer.push(ms(answered));
            }
            None if is_cancelled => {
                world.tally().violate("cancelled by nobody", &request, &self.text);
            }
            None => {}
        }
        world.settle(ask, &outcome);
        if is_cancelled { Ended::Otherwise } else { Ended::Answered(Box::new(outcome)) }
    }
}

//! One stream: read to its end, or left before, with a look at the clock at every token.

use super::{World, api::Events, client::Ask, now, tally::Answer, texts::Random};
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
    generation: Option<Answer>,
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
    /// The last event but `[DONE]`, and when it came.
    end: Option<(Answer, Instant)>,
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
) {
    let mut events = Events::new(response);
    let mut heard = Heard::default();
    while heard.wrong.is_none() {
        match events.next().await {
            Ok(Some(data)) if data == "[DONE]" => break,
            Ok(Some(data)) => heard.take(world, &data, sent),
            Ok(None) => heard.wrong = Some(("a stream that broke off", heard.text.clone())),
            Err(error) => heard.wrong = Some(("a stream that broke off", format!("{error:?}"))),
        }
        match leave {
            Leave::HangUp(after) if heard.goes_on_after(after) => return,
            Leave::Cancel(after) if heard.goes_on_after(after) && heard.cancel.is_none() => {
                let (world, id) = (Arc::clone(world), heard.id.clone());
                heard.cancel = Some(tokio::spawn(async move { cancel(&world, &id).await }));
            }
            _ => {}
        }
    }
    heard.finish(world, ask).await;
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
        self.end.is_none() && !self.id.is_empty() && self.tokens.len() >= tokens
    }

    fn take(&mut self, world: &World, data: &str, sent: Instant) {
        let at = now();
        let Ok(event) = serde_json::from_str::<Event>(data) else {
            self.wrong = Some(("an event that is none", data.to_owned()));
            return;
        };
        self.text.push_str(event.text.as_deref().unwrap_or_default());
        match (event.kind.as_str(), event.token, event.generation) {
            ("generation.created", _, Some(generation)) => self.id = generation.id,
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
            ("generation.completed" | "generation.cancelled", _, Some(generation)) => {
                self.end = Some((generation, at));
            }
            _ => self.wrong = Some(("an event that must not be", data.to_owned())),
        }
    }

    /// Checks the end against what came before it, and the whole against other answers.
    async fn finish(self, world: &World, ask: &Ask) {
        let times = match self.cancel {
            Some(cancel) => cancel.await.ok(),
            None => None,
        };
        let request = ask.body.to_string();
        let mut tally = world.tally();
        if let Some((what, response)) = self.wrong {
            tally.violate(what, &request, &response);
            return;
        }
        let Some((answer, ended)) = self.end else {
            tally.violate("a stream without an end", &request, &self.text);
            return;
        };
        let is_cancelled = answer.finish_reason.as_deref() == Some("cancelled");
        if answer.tokens != self.tokens || answer.text != self.text {
            let end = format!("{:?} at its end, {:?} before", answer.text, self.text);
            tally.violate("a stream whose end is another", &request, &end);
        }
        match times.filter(|_| is_cancelled) {
            Some((sent, answered)) => {
                let ms = |at: Instant| at.saturating_duration_since(sent).as_secs_f64() * 1e3;
                tally.times.cancel_to_end.push(ms(ended));
                tally.times.cancel_to_answer.push(ms(answered));
            }
            None if is_cancelled => tally.violate("cancelled by nobody", &request, &self.text),
            None => {}
        }
        tally.compare(&ask.key, &request, answer);
    }
}

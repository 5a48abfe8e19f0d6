//! One generation from the asking to the end, and what a client makes of it.

use super::{
    World,
    api::Reply,
    ask::Ask,
    client::Client,
    now,
    outcome::{Ended, Outcome},
    stream::{Leave, follow},
};

/// Of a hundred answers so many are forked.
const FORKED: usize = 20;

impl Client {
    pub(crate) async fn generate(&mut self) {
        let Some(ask) = self.ask().await else { return };
        let (leave, sent) = (Leave::draw(&mut self.random), now());
        let ended = match self.world.api.send("POST", "/v1/generate", Some(&ask.body)).await {
            Ok(response) if ask.is_streamed && response.status() == 200 => {
                self.world.tally().count("stream", "200");
                follow(&self.world, response, &ask, sent, leave).await
            }
            Ok(response) => self.read(&ask, Reply::read(response).await).await,
            Err(error) => self.read(&ask, Err(error)).await,
        };
        match ended {
            Ended::Answered(outcome) => {
                self.take_sealed(&ask, &ask.body.to_string(), outcome.sealed).await;
                if self.random.percent(FORKED) {
                    self.fork(&ask, &outcome.answer).await;
                }
            }
            Ended::Lost => self.let_go(&ask),
            Ended::Otherwise => {}
        }
    }

    /// Takes what was sent whole: an answer, or why there is none.
    async fn read(&self, ask: &Ask, reply: reqwest::Result<Reply>) -> Ended {
        let refusal = reply.as_ref().ok().filter(|reply| reply.status == 404);
        let is_lost = refusal.is_some_and(|reply| ask.has_lost(&reply.text));
        let mut shared = ask.shared.iter().filter_map(|&index| self.world.shared[index].id.get());
        let is_gone =
            refusal.is_some_and(|reply| shared.any(|id| reply.text.contains(id.as_str())));
        let also: &[u16] = if is_gone || is_lost { &[404] } else { &[] };
        let kind = if ask.is_streamed { "stream" } else { "generate" };
        let request = ask.body.to_string();
        let reply = self.world.accept(kind, &request, reply, also).await;
        for &index in ask.shared.iter().filter(|_| is_gone) {
            self.put(&self.world.shared[index].text).await;
        }
        let Some(reply) = reply else {
            return if is_lost { Ended::Lost } else { Ended::Otherwise };
        };
        match Outcome::all(&reply, ask.answers) {
            Ok(outcomes) => self.world.take_whole(ask, outcomes),
            Err(error) => {
                self.world.tally().violate("no generation", &request, &error.to_string());
                Ended::Otherwise
            }
        }
    }

    /// Keeps what an answer became, where that was asked for.
    pub(crate) async fn take_sealed(&mut self, ask: &Ask, request: &str, id: Option<String>) {
        if id.is_some() != ask.is_sealed {
            let what = "sealed without being asked for, or not sealed";
            self.world.tally().violate(what, request, &format!("{id:?}"));
        }
        if let Some(id) = id {
            self.world.tally().sealed += 1;
            self.keep_sealed(id).await;
        }
    }

    /// The sealed fragment in it is gone.
    pub(crate) fn let_go(&mut self, ask: &Ask) {
        self.world.tally().sealed_lost += 1;
        self.sealed.forget(ask.sealed.as_deref().unwrap_or_default());
    }
}

impl World {
    /// Holds a result against others to the same, and against what it may cost.
    pub(crate) fn settle(&self, ask: &Ask, outcome: &Outcome) {
        let request = ask.body.to_string();
        let mut tally = self.tally();
        match &ask.clock {
            None => tally.compare(&ask.key, &request, outcome.answer.clone()),
            Some(clock) => {
                tally.read_first(clock, outcome);
                tally.read_swaps(clock, &request, outcome);
            }
        }
    }

    /// All answers to one request are the same: greedy ones do not hang on their seeds.
    fn take_whole(&self, ask: &Ask, mut outcomes: Vec<Outcome>) -> Ended {
        for outcome in &outcomes {
            self.tally().tokens += outcome.answer.tokens.len() as u64;
            self.settle(ask, outcome);
        }
        let other = outcomes.iter().find(|other| !other.answer.is_like(&outcomes[0].answer));
        if let Some(other) = other {
            let both = format!("{:?} and {:?}", outcomes[0].answer.tokens, other.answer.tokens);
            let what = "several answers that are not the same";
            self.tally().violate(what, &ask.body.to_string(), &both);
        }
        Ended::Answered(Box::new(outcomes.swap_remove(0)))
    }
}

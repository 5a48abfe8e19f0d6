//! Forks of answers that ended: a greedy one says what its parent said.

use super::{
    api::Reply, ask::Ask, client::Client, outcome::Outcome, tally::Answer, texts::QUESTIONS,
};
use serde_json::{Value, json};

impl Client {
    /// Goes on from somewhere in an answer: as it did, or with a further turn.
    pub(crate) async fn fork(&mut self, ask: &Ask, parent: &Answer) {
        let at = self.random.below(parent.tokens.len() + 1);
        let has_turn = self.random.percent(25);
        let mut body = json!({"at": at});
        if has_turn {
            let question = QUESTIONS[self.random.below(QUESTIONS.len())];
            body["tail"] = json!([{"role": "user", "text": question}]);
        }
        let path = format!("/v1/generations/{}/fork", parent.id);
        let reply = self.world.api.call("POST", &path, Some(&body)).await;
        let request = format!("POST {path} {body} of {}", ask.body);
        let is_lost = reply.as_ref().is_ok_and(|it| it.status == 404 && ask.has_lost(&it.text));
        let may_be_gone = is_lost || reply.as_ref().is_ok_and(|it| is_forgotten(it, parent));
        let also: &[u16] = if may_be_gone { &[404] } else { &[] };
        let reply = self.world.accept("fork", &request, reply, also).await;
        if is_lost {
            self.let_go(ask);
        }
        let Some(reply) = reply else { return };
        match reply.json::<Outcome>() {
            Ok(fork) => {
                let like = (!has_turn && ask.clock.is_none()).then_some((parent, at));
                self.take_fork(ask, like, &request, fork).await;
            }
            Err(error) => {
                self.world.tally().violate("no generation", &request, &error.to_string());
            }
        }
    }

    /// `like`: what it must say, behind so many tokens.
    async fn take_fork(
        &mut self,
        ask: &Ask,
        like: Option<(&Answer, usize)>,
        request: &str,
        fork: Outcome,
    ) {
        {
            let mut tally = self.world.tally();
            tally.forks += 1;
            tally.tokens += fork.answer.tokens.len() as u64;
            if let Some((parent, at)) =
                like.filter(|(parent, at)| !follows(parent, *at, &fork.answer))
            {
                let both = json!({"tokens": fork.answer.tokens, "its parent's": parent.tokens});
                tally.violate(
                    format!("a fork at {at} that says something else"),
                    request,
                    &both.to_string(),
                );
            }
            // How old the clock was at its first token hangs on its parent's age.
            if let Some(clock) = &ask.clock {
                tally.read_swaps(clock, request, &fork);
            }
        }
        self.take_sealed(ask, request, fork.sealed).await;
    }
}

/// The server keeps so many generations that ended, and it was not among them any more.
fn is_forgotten(reply: &Reply, parent: &Answer) -> bool {
    let error = reply.json::<Value>().unwrap_or_default();
    let is_named = error["error"]["message"].as_str().is_some_and(|it| it.contains(&parent.id));
    reply.status == 404 && error["error"]["code"] == "generation_not_found" && is_named
}

/// A fork's tokens, which do not hold those it was given, are its parent's behind `at`, as far as both
/// were let go on.
fn follows(parent: &Answer, at: usize, fork: &Answer) -> bool {
    // A token's text may hang on those before it: tokens are compared.
    let (tokens, text) = (parent.tokens[at..].to_vec(), fork.text.clone());
    Answer { text, tokens, ..parent.clone() }.agrees(fork)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(tokens: &[u32], finish_reason: &str) -> Answer {
        let finish_reason = Some(finish_reason.to_owned());
        Answer {
            id: "gen_1".to_owned(),
            tokens: tokens.to_vec(),
            finish_reason,
            ..Answer::default()
        }
    }

    #[test]
    fn a_fork_goes_on_as_its_parent_did() {
        let (stopped, cut) = (answer(&[1, 2, 3], "stop"), answer(&[1, 2, 3], "length"));
        for (parent, at, fork, is_fine) in [
            (&stopped, 1, answer(&[2, 3], "stop"), true),
            (&stopped, 1, answer(&[2], "length"), true),
            (&stopped, 3, answer(&[], "stop"), true),
            (&stopped, 3, answer(&[4], "length"), false),
            (&stopped, 1, answer(&[1, 2, 3], "stop"), false),
            (&stopped, 1, answer(&[2], "stop"), false),
            (&cut, 1, answer(&[2, 3, 4], "length"), true),
            (&cut, 1, answer(&[2, 4], "length"), false),
            (&cut, 1, answer(&[2], "stop"), false),
        ] {
            assert_eq!(follows(parent, at, &fork), is_fine, "{:?} at {at}", fork.tokens);
        }
    }

    #[test]
    fn only_its_parent_may_be_forgotten() {
        let reply = |status, code: &str, id: &str| {
            let error =
                json!({"error": {"message": format!("no generation {id:?}"), "code": code}});
            Reply { status, retry_after: None, text: error.to_string() }
        };
        let parent = answer(&[1], "stop");
        assert!(is_forgotten(&reply(404, "generation_not_found", "gen_1"), &parent));
        assert!(!is_forgotten(&reply(404, "generation_not_found", "gen_2"), &parent));
        assert!(!is_forgotten(&reply(404, "fragment_not_found", "gen_1"), &parent));
        assert!(!is_forgotten(&reply(500, "generation_not_found", "gen_1"), &parent));
    }
}

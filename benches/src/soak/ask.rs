//! A generation to ask for: what stands in it, how it is joined, and how it is answered.

use super::{
    SHARED,
    client::Client,
    texts::{QUESTIONS, Random},
};
use serde_json::{Value, json};

/// Compositions that all clients ask for again and again.
const POPULAR: usize = 96;
/// Streams of numbers from here on are of popular compositions.
const POPULAR_STREAM: u64 = 1 << 40;
const TOKENS_MAX: usize = 48;
/// Of generations: no answer may hang on them.
const PRIORITIES: [&str; 4] = ["low", "normal", "normal", "high"];

/// A generation to ask for.
#[derive(Default)]
pub(crate) struct Ask {
    /// The composition and the policy, in short.
    pub(crate) key: String,
    pub(crate) body: Value,
    pub(crate) is_streamed: bool,
    pub(crate) is_sealed: bool,
    /// Answers to it.
    pub(crate) answers: usize,
    /// Shared fragments in it, by their indices: any client may have dropped them meanwhile.
    pub(crate) shared: Vec<usize>,
    /// The sealed fragment in it: the server may have forgotten it meanwhile.
    pub(crate) sealed: Option<String>,
    /// The clock in it, bound live: the answer hangs on the time.
    pub(crate) clock: Option<String>,
}

/// Fragments and side contexts of a composition in the making.
#[derive(Default)]
struct Parts {
    compose: Vec<Value>,
    /// What each is, whoever names it and however.
    named: Vec<String>,
}

impl Parts {
    fn insert(&mut self, at: usize, part: Value, name: &str) {
        self.compose.insert(at, part);
        self.named.insert(at, name.to_owned());
    }
}

impl Ask {
    /// A refusal or a failure says that the sealed fragment is not there any more.
    pub(crate) fn has_lost(&self, text: &str) -> bool {
        let is_named = self.sealed.as_ref().is_some_and(|id| text.contains(id.as_str()));
        is_named && text.contains("fragment_not_found")
    }
}

impl Client {
    /// What to ask for next; nothing when a fragment of it could not be put.
    pub(crate) async fn ask(&mut self) -> Option<Ask> {
        let clock = if self.random.percent(40) { self.clock().await } else { None };
        let mut ask = self.composition(clock).await?;
        (ask.is_streamed, ask.answers) = (self.random.percent(70), 1);
        let body = &mut ask.body;
        body["max_tokens"] = json!(1 + self.random.below(TOKENS_MAX));
        body["temperature"] = json!(0);
        body["stream"] = json!(ask.is_streamed);
        body["priority"] = json!(PRIORITIES[self.random.below(PRIORITIES.len())]);
        // A tail that sees two times is not sealed, and one that recompute computes is in one piece.
        let can_seal = ask.clock.is_none() && body["join"]["policy"] != "recompute";
        ask.is_sealed = self.random.percent(15) && can_seal;
        if ask.is_sealed {
            body["seal"] = json!(true);
        }
        let is_twice = self.random.percent(25) && !ask.is_streamed && ask.clock.is_none();
        if is_twice {
            ask.answers = 2;
            body["n"] = json!(ask.answers);
        }
        Some(ask)
    }

    /// A composition: one that others ask for too, or one with fragments of its own.
    async fn composition(&mut self, clock: Option<String>) -> Option<Ask> {
        let is_popular = self.random.percent(60) && clock.is_none();
        let popular = POPULAR_STREAM + self.random.below(POPULAR) as u64;
        let mut popular = Random::new(self.world.seed, popular);
        let drawn = if is_popular { &mut popular } else { &mut self.random };
        let shared: Vec<_> = (0..=drawn.below(6)).map(|_| drawn.below(SHARED)).collect();
        let (mut policy, mut join) = policy(drawn);
        let question = QUESTIONS[drawn.below(QUESTIONS.len())];
        let (mut parts, mut by_id) = (Parts::default(), Vec::new());
        for index in shared {
            let name = format!("s{index}");
            let part = if self.random.percent(25) {
                json!({"text": self.world.shared[index].text})
            } else {
                by_id.push(index);
                json!({"fragment": self.shared_id(index).await?})
            };
            parts.insert(parts.compose.len(), part, &name);
        }
        let sealed = if is_popular { None } else { self.add_own(&mut parts) };
        if let Some(id) = &clock {
            parts.insert(parts.compose.len(), json!({"side": id, "binding": "live"}), "the clock");
        }
        if clock.is_some() || sealed.is_some() {
            (policy, join) = reuse();
        }
        let key = format!("{policy} of {} and {question:?}", parts.named.join(", "));
        let tail = json!([{"role": "user", "text": question}]);
        let body = json!({"compose": parts.compose, "tail": tail, "join": join});
        Some(Ask { key, body, shared: by_id, sealed, clock, ..Ask::default() })
    }

    /// Some of this client's own: a text, something sealed, which is returned, and its feed.
    fn add_own(&mut self, parts: &mut Parts) -> Option<String> {
        if self.random.percent(40) && !self.own.is_empty() {
            let (text, id) = &self.own[self.random.below(self.own.len())];
            let name = text.split(':').next().unwrap_or_default();
            parts.insert(self.random.below(parts.compose.len() + 1), json!({"fragment": id}), name);
        }
        let sealed =
            if self.random.percent(50) { self.sealed.draw(&mut self.random) } else { None };
        if let Some(id) = &sealed {
            // What it saw is in its id, so that is its name, too.
            parts.insert(self.random.below(parts.compose.len() + 1), json!({"fragment": id}), id);
        }
        if let Some(id) = self.feed.as_ref().filter(|_| self.random.percent(40)) {
            parts.compose.push(json!({"side": id}));
            parts.named.extend(self.entries.iter().map(|entry| entry.trim().to_owned()));
        }
        sealed
    }
}

/// A policy's name, and how it is asked for.
fn policy(random: &mut Random) -> (&'static str, Value) {
    match random.below(5) {
        0 => reuse(),
        1 => ("boundary", json!({"policy": "boundary", "tokens": 16})),
        2 => ("query", json!({"policy": "query", "ratio": 0.15})),
        3 => ("auto", json!({"policy": "auto", "quality": 0.98})),
        _ => ("recompute", json!({"policy": "recompute"})),
    }
}

fn reuse() -> (&'static str, Value) {
    ("reuse", json!({"policy": "reuse"}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_sealed_fragment_may_be_lost() {
        let ask = Ask { sealed: Some("frg_1".to_owned()), ..Ask::default() };
        let lost = r#"{"message":"no fragment frg_1","code":"fragment_not_found"}"#;
        assert!(ask.has_lost(lost));
        assert!(!ask.has_lost(&lost.replace("frg_1", "frg_2")));
        assert!(!ask.has_lost(&lost.replace("fragment_not_found", "fragment_in_use")));
        assert!(!Ask::default().has_lost(lost));
    }
}

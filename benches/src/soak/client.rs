//! One client's life: what it asks for next, and what it makes of the answer.

use super::{
    SHARED, Shared, World,
    api::Reply,
    bad, now,
    stream::{Leave, follow},
    tally::{Answer, Tally},
    texts::{QUESTIONS, Random, text},
};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

/// Fragments of its own that a client keeps.
const OWN_MAX: usize = 4;
/// Entries of its feed.
const ENTRIES_MAX: usize = 3;
/// Compositions that all clients ask for again and again.
const POPULAR: usize = 96;
/// Streams of numbers from here on are of popular compositions.
const POPULAR_STREAM: u64 = 1 << 40;
const TOKENS_MAX: usize = 48;
/// Of generations: no answer may hang on them.
const PRIORITIES: [&str; 4] = ["low", "normal", "normal", "high"];

/// A client.
pub(crate) struct Client {
    world: Arc<World>,
    number: u64,
    random: Random,
    own: VecDeque<(String, String)>,
    made: u64,
    feed: Option<String>,
    entries: VecDeque<String>,
}

/// A generation to ask for.
pub(crate) struct Ask {
    /// The composition and the policy, in short.
    pub(crate) key: String,
    pub(crate) body: Value,
    /// Shared fragments in it, by their ids: any client may have dropped them meanwhile.
    shared: Vec<usize>,
}

/// Lives until the time is up.
pub(crate) async fn live(world: Arc<World>, number: u64) {
    let random = Random::new(world.seed, number);
    let (own, entries) = (VecDeque::new(), VecDeque::new());
    let mut client = Client { world, number, random, own, made: 0, feed: None, entries };
    while now() < client.world.until {
        match client.random.below(100) {
            0..66 => client.generate().await,
            66..74 => client.put_own().await,
            74..78 => client.put_shared().await,
            78..84 => client.drop_shared().await,
            84..94 => client.push().await,
            _ => client.err().await,
        }
    }
    if let Some(id) = client.feed.take() {
        let path = format!("/v1/side-contexts/{id}");
        client.call("delete side context", "DELETE", &path, None, &[]).await;
    }
}

impl World {
    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        // Counts stay counts, whoever panicked.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer when it is a success. A stated limit is waited for as it says; anything else that
    /// is not among `also` must not be.
    pub(crate) async fn accept(
        &self,
        kind: &'static str,
        request: &str,
        reply: reqwest::Result<Reply>,
        also: &[u16],
    ) -> Option<Reply> {
        let wait = match reply {
            Ok(reply) => {
                self.tally().count(kind, &reply.status.to_string());
                match (reply.status, reply.retry_after) {
                    (200, _) => return Some(reply),
                    (429, Some(seconds)) => Duration::from_secs(seconds),
                    (status, _) if also.contains(&status) => Duration::ZERO,
                    (status, _) => {
                        self.tally().violate(format!("{kind}: {status}"), request, &reply.text);
                        Duration::ZERO
                    }
                }
            }
            Err(error) => {
                let what = format!("{kind}: no answer");
                self.tally().count(kind, "none");
                self.tally().violate(what, request, &format!("{error:?}"));
                // A server that is gone is not asked a thousand times a second.
                Duration::from_secs(1)
            }
        };
        tokio::time::sleep(wait).await;
        None
    }
}

impl Client {
    async fn call(
        &self,
        kind: &'static str,
        method: &str,
        path: &str,
        body: Option<&Value>,
        also: &[u16],
    ) -> Option<Reply> {
        let reply = self.world.api.call(method, path, body).await;
        let request = body.map_or_else(|| format!("{method} {path}"), Value::to_string);
        self.world.accept(kind, &request, reply, also).await
    }

    /// Puts a text and returns its fragment's id.
    async fn put(&self, text: &str) -> Option<String> {
        let body = json!({"text": text});
        let reply = self.call("put", "POST", "/v1/fragments", Some(&body), &[]).await?;
        self.id_in(&reply)
    }

    fn id_in(&self, reply: &Reply) -> Option<String> {
        let object = reply.json::<Value>().unwrap_or_default();
        let id = object["id"].as_str().map(str::to_owned);
        if id.is_none() {
            self.world.tally().violate("an object without an id", "", &reply.text);
        }
        id
    }

    async fn put_own(&mut self) {
        self.made += 1;
        let text = text(self.world.seed, &format!("c{}-{}", self.number, self.made));
        if let Some(id) = self.put(&text).await {
            self.own.push_back((text, id));
        }
        if self.own.len() > OWN_MAX {
            let (_, id) = self.own.pop_front().expect("there are some");
            self.call("drop", "DELETE", &format!("/v1/fragments/{id}"), None, &[409]).await;
        }
    }

    async fn put_shared(&mut self) {
        let index = self.random.below(SHARED);
        self.put(&self.world.shared[index].text).await;
    }

    /// The id of a shared fragment: once known, it stays.
    async fn shared_id(&self, index: usize) -> Option<&str> {
        let Shared { text, id } = &self.world.shared[index];
        if id.get().is_none() {
            let put = self.put(text).await?;
            id.get_or_init(|| put);
        }
        id.get().map(String::as_str)
    }

    async fn drop_shared(&mut self) {
        let index = self.random.below(SHARED);
        let Some(id) = self.shared_id(index).await else { return };
        let path = format!("/v1/fragments/{id}");
        // Another client may have dropped it, or hold it.
        self.call("drop", "DELETE", &path, None, &[404, 409]).await;
    }

    /// Adds an entry to this client's feed, which is made with the first.
    async fn push(&mut self) {
        if self.feed.is_none() {
            let body = json!({"kind": "feed", "max_entries": ENTRIES_MAX});
            let made =
                self.call("make side context", "POST", "/v1/side-contexts", Some(&body), &[]);
            let Some(reply) = made.await else { return };
            self.feed = self.id_in(&reply);
        }
        let Some(id) = &self.feed else { return };
        let entry = format!("It is {} o'clock now.\n", self.random.below(12));
        let path = format!("/v1/side-contexts/{id}/entries");
        let body = json!({"text": entry});
        if self.call("push", "POST", &path, Some(&body), &[]).await.is_some() {
            self.entries.push_back(entry);
            if self.entries.len() > ENTRIES_MAX {
                self.entries.pop_front();
            }
        }
    }

    /// Asks for something wrong on purpose.
    async fn err(&mut self) {
        let bad = bad::draw(&mut self.random, self.world.context);
        let reply = self.world.api.call(bad.method, bad.path, bad.body.as_ref()).await;
        let request = format!("{} {} {:?}", bad.method, bad.path, bad.body);
        if let Ok(reply) = &reply {
            let is_refused = reply.status == bad.status && reply.text.contains(bad.names);
            if !is_refused && reply.status != 429 {
                let what = format!("{} and {:?} were expected", bad.status, bad.names);
                self.world.tally().violate(what, &request, &reply.text);
            }
        }
        self.world.accept("bad on purpose", &request, reply, &[bad.status]).await;
    }

    async fn generate(&mut self) {
        let Some(mut ask) = self.ask().await else { return };
        ask.body["max_tokens"] = json!(1 + self.random.below(TOKENS_MAX));
        ask.body["temperature"] = json!(0);
        let is_streamed = self.random.percent(70);
        ask.body["stream"] = json!(is_streamed);
        ask.body["priority"] = json!(PRIORITIES[self.random.below(PRIORITIES.len())]);
        let leave = Leave::draw(&mut self.random);
        let (kind, api) = (if is_streamed { "stream" } else { "generate" }, &self.world.api);
        let sent = now();
        let (whole, stream) = match api.send("POST", "/v1/generate", Some(&ask.body)).await {
            Ok(response) if is_streamed && response.status() == 200 => (None, Some(response)),
            Ok(response) => (Some(Reply::read(response).await), None),
            Err(error) => (Some(Err(error)), None),
        };
        if let Some(response) = stream {
            self.world.tally().count(kind, "200");
            follow(&self.world, response, &ask, sent, leave).await;
        }
        let Some(reply) = whole else { return };
        let is_shared = |text: &str| {
            let mut ids = ask.shared.iter().filter_map(|&index| self.world.shared[index].id.get());
            ids.any(|id| text.contains(id.as_str()))
        };
        let is_gone = |reply: &Reply| reply.status == 404 && is_shared(&reply.text);
        let is_gone = reply.as_ref().is_ok_and(is_gone);
        let also: &[u16] = if is_gone { &[404] } else { &[] };
        let request = ask.body.to_string();
        if let Some(reply) = self.world.accept(kind, &request, reply, also).await {
            match reply.json::<Answer>() {
                Ok(answer) => {
                    self.world.tally().tokens += answer.tokens.len() as u64;
                    self.world.tally().compare(&ask.key, &request, answer);
                }
                Err(error) => {
                    self.world.tally().violate("no generation", &request, &error.to_string());
                }
            }
        }
        for &index in ask.shared.iter().filter(|_| is_gone) {
            self.put(&self.world.shared[index].text).await;
        }
    }

    /// A composition: one that others ask for too, or one with fragments of its own.
    async fn ask(&mut self) -> Option<Ask> {
        let is_popular = self.random.percent(60);
        let popular = POPULAR_STREAM + self.random.below(POPULAR) as u64;
        let mut popular = Random::new(self.world.seed, popular);
        let drawn = if is_popular { &mut popular } else { &mut self.random };
        let shared: Vec<_> = (0..=drawn.below(6)).map(|_| drawn.below(SHARED)).collect();
        let (policy, join) = policy(drawn);
        let question = QUESTIONS[drawn.below(QUESTIONS.len())];
        let tail = json!([{"role": "user", "text": question}]);
        let mut compose = Vec::new();
        let mut placed: Vec<_> = shared.iter().map(|index| format!("s{index}")).collect();
        let mut by_id = Vec::new();
        for index in shared {
            if self.random.percent(25) {
                compose.push(json!({"text": self.world.shared[index].text}));
            } else {
                compose.push(json!({"fragment": self.shared_id(index).await?}));
                by_id.push(index);
            }
        }
        if !is_popular && self.random.percent(40) && !self.own.is_empty() {
            let (text, id) = &self.own[self.random.below(self.own.len())];
            let at = self.random.below(compose.len() + 1);
            compose.insert(at, json!({"fragment": id}));
            placed.insert(at, text.split(':').next().unwrap_or_default().to_owned());
        }
        if let Some(id) = self.feed.as_ref().filter(|_| !is_popular && self.random.percent(40)) {
            compose.push(json!({"side": id}));
            placed.extend(self.entries.iter().map(|entry| entry.trim().to_owned()));
        }
        let key = format!("{policy} of {} and {question:?}", placed.join(", "));
        let body = json!({"compose": compose, "tail": tail, "join": join});
        Some(Ask { key, body, shared: by_id })
    }
}

/// A policy's name, and how it is asked for.
fn policy(random: &mut Random) -> (&'static str, Value) {
    match random.below(5) {
        0 => ("reuse", json!({"policy": "reuse"})),
        1 => ("boundary", json!({"policy": "boundary", "tokens": 16})),
        2 => ("query", json!({"policy": "query", "ratio": 0.15})),
        3 => ("auto", json!({"policy": "auto", "quality": 0.98})),
        _ => ("recompute", json!({"policy": "recompute"})),
    }
}

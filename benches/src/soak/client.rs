//! One client's life: what it asks for next, and what it makes of the answer.

use super::{
    SHARED, Shared, World,
    api::Reply,
    bad, now,
    sealed::Kept,
    tally::Tally,
    texts::{Random, text},
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

/// A client.
pub(crate) struct Client {
    pub(crate) world: Arc<World>,
    pub(crate) number: u64,
    pub(crate) random: Random,
    /// Texts of its own, and their fragments' ids.
    pub(crate) own: VecDeque<(String, String)>,
    made: u64,
    pub(crate) sealed: Kept,
    pub(crate) feed: Option<String>,
    pub(crate) entries: VecDeque<String>,
    pub(crate) clock: Option<String>,
}

/// Lives until the time is up.
pub(crate) async fn live(world: Arc<World>, number: u64) {
    let mut client = Client::new(world, number);
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
    client.drop_sealed().await;
    for id in client.feed.take().into_iter().chain(client.clock.take()) {
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
    fn new(world: Arc<World>, number: u64) -> Self {
        Self {
            random: Random::new(world.seed, number),
            world,
            number,
            own: VecDeque::new(),
            made: 0,
            sealed: Kept::default(),
            feed: None,
            entries: VecDeque::new(),
            clock: None,
        }
    }

    pub(crate) async fn call(
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
    pub(crate) async fn put(&self, text: &str) -> Option<String> {
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
    pub(crate) async fn shared_id(&self, index: usize) -> Option<&str> {
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

    /// Makes a side context and returns its id.
    pub(crate) async fn make_side(&self, body: &Value) -> Option<String> {
        let made = self.call("make side context", "POST", "/v1/side-contexts", Some(body), &[]);
        self.id_in(&made.await?)
    }

    /// Adds an entry to this client's feed, which is made with the first.
    async fn push(&mut self) {
        if self.feed.is_none() {
            let body = json!({"kind": "feed", "max_entries": ENTRIES_MAX});
            self.feed = self.make_side(&body).await;
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
}

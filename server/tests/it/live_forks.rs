//! Several answers over side contexts bound live, and forks of such: each begins from what stood where it
//! begins, and gets its own swaps.

use crate::harness::{Setup, call, call_json};
use axum::Router;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinHandle;

const TAIL: usize = 40;
const LONG: usize = 6_000;

/// A server that keeps a feed and a log current.
struct Kept {
    app: Router,
    feed: String,
    log: String,
    keeper: JoinHandle<()>,
}

impl Kept {
    async fn begin() -> Self {
        let state = Setup { step: Duration::from_millis(3), ..Setup::default() }.state();
        let app = cento::app(Arc::clone(&state));
        let create = async |body: Value| {
            let made = call_json(&app, "POST /v1/side-contexts", body).await.expect(200);
            made["id"].as_str().unwrap().to_owned()
        };
        let feed = create(json!({"kind": "feed", "max_entries": 2})).await;
        let log = create(json!({"kind": "log"})).await;
        let kept = Self { app, feed, log, keeper: tokio::spawn(cento::side::upkeep(state)) };
        kept.push(&kept.feed, "one. ").await;
        kept.push(&kept.log, "begun. ").await;
        kept
    }

    async fn push(&self, side: &str, text: &str) {
        let path = format!("POST /v1/side-contexts/{side}/entries");
        call_json(&self.app, &path, json!({"text": text})).await.expect(200);
    }

    /// A call over a passage and both, bound so.
    fn body(&self, binding: &str, max_tokens: usize) -> Value {
        let side = |id: &str| json!({"side": id, "binding": binding});
        json!({
            "compose": [{"text": "a passage"}, side(&self.feed), side(&self.log)],
            "tail": [{"text": "x".repeat(TAIL)}], "temperature": 0, "max_tokens": max_tokens,
        })
    }

    async fn generate(&self, mut body: Value, fields: Value) -> Value {
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        call_json(&self.app, "POST /v1/generate", body).await.json()
    }

    async fn fork(&self, id: &str, body: Value) -> Value {
        call_json(&self.app, &format!("POST /v1/generations/{id}/fork"), body).await.json()
    }

    /// Waits until a generation has so many swaps, and tokens behind the last.
    async fn swapped(&self, id: &str, swaps: usize) -> Value {
        loop {
            let now = call(&self.app, &format!("GET /v1/generations/{id}"), "").await.expect(200);
            assert_ne!(now["status"], "completed", "it ended too early: {now}");
            let last = now["swaps"].get(swaps.wrapping_sub(1));
            let at = last.map_or(0, |last| last["at_token"].as_u64().unwrap());
            let is_there = swaps == 0 || last.is_some();
            if is_there && now["tokens"].as_array().unwrap().len() as u64 > at + 1 {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn end(&self, id: &str) -> Value {
        let path = format!("POST /v1/generations/{id}/cancel");
        call(&self.app, &path, "").await.expect(200)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

fn id(of: &Value) -> &str {
    of["id"].as_str().unwrap_or_else(|| panic!("no id in {of}"))
}

/// Versions of the feed's and the log's pieces in a composition.
fn versions(of: &Value) -> Vec<u64> {
    let fragments = of["fragments"].as_array().unwrap_or_else(|| panic!("no fragments: {of}"));
    fragments.iter().filter_map(|used| used["side"]["version"].as_u64()).collect()
}

fn fragment_ids(of: &Value) -> Vec<&str> {
    of["fragments"].as_array().unwrap().iter().map(id).collect()
}

/// Tokens of the tail and the answer kept that a fork took over.
fn shared(of: &Value) -> u64 {
    let join = &of["join"];
    join["prefix_reused_tokens"].as_u64().unwrap() - join["root_tokens"].as_u64().unwrap()
}

#[tokio::test]
async fn each_of_several_answers_gets_its_own_swaps() {
    let kept = Kept::begin().await;
    let several = json!({"n": 3, "background": true});
    let list = kept.generate(kept.body("live", LONG), several).await;
    let answers = list["data"].as_array().unwrap_or_else(|| panic!("no list: {list}"));
    for answer in answers {
        kept.swapped(id(answer), 0).await;
    }
    kept.push(&kept.feed, "two. ").await;
    for (index, answer) in answers.iter().enumerate() {
        let now = kept.swapped(id(answer), 1).await;
        let swap = &now["swaps"][0];
        assert_eq!((&swap["side"], &swap["version"]), (&json!(kept.feed), &json!(2)), "{now}");
        let ended = kept.end(id(answer)).await;
        assert_eq!(
            (&ended["join"]["exact"], ended["swaps"].as_array().unwrap().len()),
            (&json!(false), 1)
        );
        assert_eq!(versions(&ended), [1, 1], "what it began with");
        if index > 0 {
            assert_eq!(shared(&ended), TAIL as u64 - 1, "the others share the first one's prefill");
        }
        let path = format!("GET /v1/generations/{}/events", id(answer));
        let events = call(&kept.app, &path, "").await.text;
        assert_eq!(events.matches("event: generation.swapped").count(), 1, "{events}");
    }
}

#[tokio::test]
async fn a_fork_begins_from_what_stood_at_its_token() {
    let kept = Kept::begin().await;
    let old = kept.generate(kept.body("snapshot", 1), json!({})).await;
    let begun = kept.generate(kept.body("live", LONG), json!({"background": true})).await;
    kept.swapped(id(&begun), 0).await;
    kept.push(&kept.feed, "two, longer. ").await;
    let first = kept.swapped(id(&begun), 1).await["swaps"][0]["at_token"].as_u64().unwrap();
    let between = kept.generate(kept.body("snapshot", 1), json!({})).await;
    kept.push(&kept.log, "more. ").await;
    let second = kept.swapped(id(&begun), 2).await["swaps"][1]["at_token"].as_u64().unwrap();
    let new = kept.generate(kept.body("snapshot", 1), json!({})).await;

    // Rows that saw what a fork stands over are shared, though other things stand there now.
    let all = |at: u64| TAIL as u64 + at - 1;
    for (at, like, versions_there, shares) in [
        (first - 1, &old, vec![1, 1], all(first - 1)),
        (first, &between, vec![2, 2, 1], 0),
        (second - 1, &between, vec![2, 2, 1], 0),
        (second, &new, vec![2, 2, 2, 2], 0),
        (second + 1, &new, vec![2, 2, 2, 2], 0),
    ] {
        let fork = json!({"at": at, "live": false, "max_tokens": 3});
        let fork = kept.fork(id(&begun), fork).await;
        assert_eq!(versions(&fork), versions_there, "at {at}: {fork}");
        assert_eq!(fragment_ids(&fork), fragment_ids(like), "as a call would have had it then");
        assert_eq!((fork["swaps"].as_array(), shared(&fork)), (None, shares), "at {at}: {fork}");
        assert_eq!(fork["join"]["tail_tokens"], json!(TAIL as u64 + at));
    }
    assert_eq!(kept.end(id(&begun)).await["swaps"].as_array().unwrap().len(), 2);
    let ended = kept.fork(id(&begun), json!({"at": first, "live": false, "max_tokens": 3})).await;
    assert_eq!(fragment_ids(&ended), fragment_ids(&between), "a fork of what has ended");
}

#[tokio::test]
async fn a_fork_reads_on_live() {
    let kept = Kept::begin().await;
    let begun = kept.generate(kept.body("live", LONG), json!({"background": true})).await;
    kept.swapped(id(&begun), 0).await;
    kept.push(&kept.feed, "two, longer. ").await;
    let first = kept.swapped(id(&begun), 1).await["swaps"][0]["at_token"].as_u64().unwrap();
    kept.push(&kept.log, "more. ").await;
    kept.swapped(id(&begun), 2).await;
    kept.end(id(&begun)).await;

    // Behind the first swap: the log, which stands further back since, is the one to come.
    let fork = kept.fork(id(&begun), json!({"at": first, "background": true})).await;
    let now = kept.swapped(id(&fork), 1).await;
    let swap = &now["swaps"][0];
    assert_eq!((&swap["side"], &swap["version"]), (&json!(kept.log), &json!(2)), "{now}");
    // What it swapped itself stands in what goes on from it.
    let new = kept.generate(kept.body("snapshot", 1), json!({})).await;
    let further = kept.fork(id(&fork), json!({"background": true})).await;
    assert_eq!(fragment_ids(&further), fragment_ids(&new));

    // What is deleted stays as it was; the other is read on.
    let deleted = format!("DELETE /v1/side-contexts/{}", kept.feed);
    call(&kept.app, &deleted, "").await.expect(200);
    let before = kept.fork(id(&begun), json!({"at": 0, "background": true})).await;
    assert_eq!(versions(&before), [1, 1]);
    assert_eq!(kept.swapped(id(&before), 1).await["swaps"][0]["side"], json!(kept.log));
    kept.push(&kept.log, "and more. ").await;
    let now = kept.swapped(id(&further), 1).await;
    assert_eq!(
        (&now["swaps"][0]["side"], &now["swaps"][0]["version"]),
        (&json!(kept.log), &json!(3))
    );
    for generation in [&fork, &further, &before] {
        let swaps = kept.end(id(generation)).await["swaps"].clone();
        let of_feed = |swap: &Value| swap["side"] == json!(kept.feed);
        assert!(!swaps.as_array().unwrap().iter().any(of_feed), "{swaps}");
    }
}

//! Side contexts over HTTP: kept current, placed last, and what their upkeep costs.

use crate::harness::{Setup, call, call_json, events, metric};
use axum::Router;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

async fn create(app: &Router, body: Value) -> (String, Value) {
    let made = call_json(app, "POST /v1/side-contexts", body).await.expect(200);
    (made["id"].as_str().expect("an id").to_owned(), made)
}

async fn place(app: &Router, compose: Value) -> Value {
    let body = json!({"compose": compose, "tail": [{"text": "x"}], "max_tokens": 1});
    call_json(app, "POST /v1/generate", body).await.expect(200)
}

#[tokio::test]
async fn a_clock_says_the_time_of_the_call() {
    let app = Setup::default().app();
    let (id, made) =
        create(&app, json!({"kind": "clock", "template": "%s\n", "name": "now"})).await;
    assert_eq!((&made["kind"], &made["name"]), (&json!("clock"), &json!("now")));
    let said: u64 = made["entries"][0]["text"].as_str().unwrap().trim().parse().unwrap();
    assert_eq!(said, made["created"].as_u64().unwrap());

    // Last before the tail, whatever the order; and nothing else is computed.
    let compose = json!([{"side": id}, {"text": "a passage"}]);
    let first = place(&app, compose.clone()).await;
    let used = &first["fragments"];
    assert_eq!((&used[0]["side"], &used[1]["side"]["id"]), (&Value::Null, &json!(id)));
    assert!(used[1]["side"]["staleness_ms"].as_f64().unwrap() < 1_500.0, "{used}");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    let second = place(&app, compose).await;
    let join = &second["join"];
    assert_eq!((&join["reused_tokens"], &join["encoded_tokens"]), (&json!(9), &used[1]["tokens"]));
    assert_ne!(second["fragments"][1]["id"], used[1]["id"], "another second");
    assert!(
        second["fragments"][1]["side"]["version"].as_u64() > used[1]["side"]["version"].as_u64()
    );

    let in_place = json!([{"side": id, "in_place": true}, {"text": "a passage"}]);
    assert_eq!(place(&app, in_place).await["fragments"][0]["side"]["id"], json!(id));
}

#[tokio::test]
async fn upkeep_encodes_ahead_of_the_call() {
    let state = Setup::default().state();
    let app = cento::app(Arc::clone(&state));
    let (id, _) = create(&app, json!({"kind": "clock", "template": "%s\n"})).await;
    let compose = json!([{"text": "a passage"}, {"side": id}]);
    place(&app, compose.clone()).await;
    let keeper = tokio::spawn(cento::side::upkeep(state));
    // Whatever the moment, it is the clock of this second, and it is encoded already.
    let mut encoded = Vec::new();
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let placed = place(&app, compose.clone()).await;
        encoded.push(placed["join"]["encoded_tokens"].as_u64().unwrap());
        let staleness = placed["fragments"][1]["side"]["staleness_ms"].as_f64().unwrap();
        assert!(staleness < 1_500.0, "{staleness} ms");
    }
    keeper.abort();
    assert!(encoded.iter().filter(|&&tokens| tokens == 0).count() >= 5, "{encoded:?}");
    // What it replaced is forgotten: there are the passage, this second, the one before, the next, and
    // one that may be new. All in all there were one more at least.
    let listed = call(&app, "GET /v1/fragments", "").await.expect(200);
    assert!(listed["data"].as_array().unwrap().len() <= 5, "{listed}");
}

#[tokio::test]
async fn entries_roll_off() {
    let app = Setup::default().app();
    for (kind, before) in [("feed", 0), ("log", 1)] {
        let (id, _) = create(&app, json!({"kind": kind, "max_entries": 2, "role": "tool"})).await;
        let entries = format!("POST /v1/side-contexts/{id}/entries");
        for (n, gone) in [(1, json!([])), (2, json!([])), (3, json!([1])), (4, json!([2]))] {
            let body = json!({"text": format!("{kind} entry {n}")});
            let pushed = call_json(&app, &entries, body).await.expect(200);
            assert_eq!((&pushed["number"], &pushed["rolled_off"]), (&json!(n), &gone), "{kind}");
        }
        let context = call(&app, &format!("GET /v1/side-contexts/{id}"), "").await.expect(200);
        assert_eq!(context["rolled_off"], 2);
        let texts: Vec<_> = context["entries"].as_array().unwrap().iter().collect();
        assert_eq!(texts.len(), 2 + before);
        assert_eq!(texts[before]["text"], format!("{kind} entry 3"));
        if before == 1 {
            assert_eq!(texts[0]["text"], "(2 earlier entries are left out.)\n");
        }
        // Only the entry that came is encoded.
        place(&app, json!([{"side": id}])).await;
        call_json(&app, &entries, json!({"text": format!("{kind} entry 5")})).await.expect(200);
        let placed = place(&app, json!([{"side": id}])).await;
        let used = placed["fragments"].as_array().unwrap();
        let new = used.last().unwrap()["tokens"].as_u64().unwrap();
        let stub = if before == 1 { used[0]["tokens"].as_u64().unwrap() } else { 0 };
        assert_eq!(placed["join"]["encoded_tokens"], new + stub, "{kind}");
    }
}

#[tokio::test]
async fn patch_delete_and_what_is_refused() {
    let app = Setup::default().app();
    let (id, _) = create(&app, json!({"kind": "clock"})).await;
    let path = format!("/v1/side-contexts/{id}");
    let patch = json!({"template": "%Y", "tick_seconds": 60});
    let patched = call_json(&app, &format!("PATCH {path}"), patch).await.expect(200);
    assert_eq!(patched["entries"][0]["text"].as_str().map(str::len), Some(4));
    for (line, body, param) in [
        ("POST /v1/side-contexts", json!({"kind": "calendar"}), "kind"),
        ("POST /v1/side-contexts", json!({"kind": "clock", "max_entries": 3}), "kind"),
        ("POST /v1/side-contexts", json!({"kind": "feed", "template": "%H"}), "kind"),
        ("POST /v1/side-contexts", json!({"kind": "feed", "max_entries": 0}), "max_entries"),
        (
            "POST /v1/side-contexts",
            json!({"kind": "feed", "max_age_seconds": -1}),
            "max_age_seconds",
        ),
        ("POST /v1/side-contexts", json!({"kind": "clock", "tick_seconds": 0}), "tick_seconds"),
        ("POST /v1/side-contexts", json!({"kind": "clock", "time_zone": "No/Where"}), "time_zone"),
        (&format!("PATCH {path}"), json!({"max_tokens": 9}), "kind"),
        (&format!("POST {path}/entries"), json!({"text": "x"}), "id"),
    ] {
        let refused = call_json(&app, line, body).await.expect(400);
        assert_eq!(refused["error"]["param"], param, "{refused}");
    }
    let generate = |part: Value| json!({"compose": [part], "tail": [{"text": "x"}]});
    for (part, param) in [
        (json!({"side": id, "text": "x"}), "compose[0].text"),
        (json!({"side": id, "binding": "dead"}), "compose[0].binding"),
        (json!({"text": "x", "in_place": true}), "compose[0].in_place"),
    ] {
        let refused = call_json(&app, "POST /v1/generate", generate(part)).await.expect(400);
        assert_eq!(refused["error"]["param"], param, "{refused}");
    }
    call(&app, &format!("DELETE {path}"), "").await.expect(200);
    call(&app, &format!("GET {path}"), "").await.expect(404);
    let gone =
        call_json(&app, "POST /v1/generate", generate(json!({"side": id}))).await.expect(404);
    assert_eq!(gone["error"]["param"], "compose[0].side");
    assert_eq!(call(&app, "GET /v1/side-contexts", "").await.expect(200)["data"], json!([]));
}

#[tokio::test]
async fn upkeep_forgets_nothing_that_a_client_put() {
    let state = Setup::default().state();
    let app = cento::app(Arc::clone(&state));
    let (id, _) = create(&app, json!({"kind": "feed", "max_entries": 1})).await;
    let entries = format!("POST /v1/side-contexts/{id}/entries");
    let put = call_json(&app, "POST /v1/fragments", json!({"text": "mine"})).await.expect(200);
    for text in ["mine", "not mine"] {
        call_json(&app, &entries, json!({"text": text})).await.expect(200);
    }
    place(&app, json!([{"side": id}])).await;
    // A bound that is not given stays: one entry still.
    let patch = format!("PATCH /v1/side-contexts/{id}");
    call_json(&app, &patch, json!({"max_age_seconds": 0.3})).await.expect(200);
    let keeper = tokio::spawn(cento::side::upkeep(state));
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    keeper.abort();
    let held = call(&app, &format!("GET /v1/side-contexts/{id}"), "").await.expect(200);
    assert_eq!((&held["entries"], &held["rolled_off"]), (&json!([]), &json!(2)));
    let mine = put["id"].as_str().unwrap();
    call(&app, &format!("GET /v1/fragments/{mine}"), "").await.expect(200);
    let listed = call(&app, "GET /v1/fragments", "").await.expect(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "the other is forgotten: {listed}");
}

/// Begins a long answer over a passage and side contexts bound live.
async fn begin_live(app: &Router, sides: &[&str]) -> String {
    let mut compose = vec![json!({"text": "a passage"})];
    compose.extend(sides.iter().map(|id| json!({"side": id, "binding": "live"})));
    let body = json!({
        "compose": compose, "tail": [{"text": "x".repeat(40)}], "temperature": 0,
        "max_tokens": 350, "background": true,
    });
    let begun = call_json(app, "POST /v1/generate", body).await.expect(202);
    begun["id"].as_str().unwrap().to_owned()
}

async fn generation(app: &Router, id: &str) -> Value {
    call(app, &format!("GET /v1/generations/{id}"), "").await.expect(200)
}

#[tokio::test]
async fn a_live_feed_is_swapped_between_two_tokens() {
    let state = Setup { step: Duration::from_millis(5), ..Setup::default() }.state();
    let app = cento::app(Arc::clone(&state));
    let (feed, _) = create(&app, json!({"kind": "feed", "max_entries": 2})).await;
    let (log, _) = create(&app, json!({"kind": "log"})).await;
    let push = async |side: &str, text: &str| {
        let path = format!("POST /v1/side-contexts/{side}/entries");
        call_json(&app, &path, json!({"text": text})).await.expect(200);
    };
    push(&feed, "one. ").await;
    push(&log, "begun. ").await;
    let keeper = tokio::spawn(cento::side::upkeep(state));
    let id = begin_live(&app, &[&feed, &log]).await;
    while generation(&app, &id).await["tokens"].as_array().unwrap().is_empty() {}
    let encoded = metric(&app, "cento_tokens_encoded_total").await;
    push(&feed, "two, longer. ").await;
    push(&log, "more. ").await;
    let swaps = loop {
        let now = generation(&app, &id).await;
        assert_ne!(now["status"], "completed", "it ended before both were swapped: {now}");
        match now["swaps"].as_array() {
            Some(swaps) if swaps.len() == 2 => break swaps.clone(),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let sides: Vec<_> = swaps.iter().map(|swap| swap["side"].as_str().unwrap()).collect();
    assert!(sides.contains(&&*feed) && sides.contains(&&*log), "{swaps:?}");
    for swap in &swaps {
        assert_eq!(swap["version"], 2);
        assert!(swap["at_token"].as_u64().unwrap() > 0, "{swap}");
        assert!(swap["staleness_ms"].as_f64().unwrap() < 1_100.0, "{swap}");
    }
    // What was there is not encoded again: the two new entries are all.
    let encoded = metric(&app, "cento_tokens_encoded_total").await - encoded;
    assert_eq!(encoded as usize, "two, longer. ".len() + "more. ".len());

    let ended = call(&app, &format!("POST /v1/generations/{id}/cancel"), "").await.expect(200);
    assert_eq!(ended["join"]["exact"], false);
    let events = call(&app, &format!("GET /v1/generations/{id}/events"), "").await.text;
    assert_eq!(events.matches("event: generation.swapped").count(), 2, "{events}");
    keeper.abort();
}

/// Begins an answer of so many tokens over what is composed.
async fn begin(app: &Router, compose: Value, max_tokens: usize) -> String {
    let body = json!({
        "compose": compose, "tail": [{"text": "a question"}], "temperature": 0,
        "max_tokens": max_tokens, "background": true,
    });
    let begun = call_json(app, "POST /v1/generate", body).await.expect(202);
    begun["id"].as_str().unwrap().to_owned()
}

/// A generation, once that is so of it.
async fn once(app: &Router, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..3_000 {
        let now = generation(app, id).await;
        if is_so(&now) {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it stays {}", generation(app, id).await);
}

#[tokio::test]
async fn a_generation_that_waits_is_composed_anew_with_what_came() {
    // The one place is taken by an answer that ends only when it is told to.
    let state = Setup { running_max: 1, ..Setup::slow() }.state();
    let app = cento::app(Arc::clone(&state));
    let (feed, _) = create(&app, json!({"kind": "feed"})).await;
    let push = async |text: &str| {
        let path = format!("POST /v1/side-contexts/{feed}/entries");
        call_json(&app, &path, json!({"text": text})).await.expect(200);
    };
    push("one. ").await;
    let keeper = tokio::spawn(cento::side::upkeep(state));
    let running = begin(&app, json!([{"text": "a passage"}]), 1_000_000).await;
    once(&app, &running, |now| now["tokens"] != json!([])).await;
    let bound = |binding: &str| json!([{"text": "a passage"}, {"side": feed, "binding": binding}]);
    let waiting = begin(&app, bound("live"), 3).await;
    let mut tokens = "one. ".len();
    for (version, text) in [(2, "two, longer. "), (3, "three. ")] {
        push(text).await;
        tokens += text.len();
        let last = version - 2;
        let now = once(&app, &waiting, |now| now["swaps"][last] != Value::Null).await;
        let swap = &now["swaps"][last];
        assert_eq!((&now["status"], &now["tokens"]), (&json!("queued"), &json!([])));
        assert_eq!((&swap["version"], &swap["at_token"]), (&json!(version), &json!(0)), "{now}");
        assert_eq!(swap["tokens"], json!(tokens), "all pieces of the feed");
        assert_eq!(now["fragments"][version]["side"]["version"], json!(version), "{now}");
    }
    call(&app, &format!("POST /v1/generations/{running}/cancel"), "").await.expect(200);

    // As if it had been asked for with the newest.
    let ended = once(&app, &waiting, |now| now["status"] == "completed").await;
    let asked = place(&app, bound("snapshot")).await;
    let ids = |of: &Value| [0, 1, 2, 3].map(|at| of["fragments"][at]["id"].clone());
    assert_eq!(ids(&ended), ids(&asked));
    assert_eq!(ended["join"]["reused_tokens"], json!("a passage".len() + tokens));
    let stream = call(&app, &format!("GET /v1/generations/{waiting}/events"), "").await.text;
    let kinds: Vec<_> = events(&stream).into_iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds[..4],
        ["generation.created", "generation.swapped", "generation.swapped", "generation.token"]
    );
    assert_eq!(kinds.iter().filter(|kind| *kind == "generation.swapped").count(), 2, "{kinds:?}");
    keeper.abort();
}

#[tokio::test]
async fn live_bindings_are_for_policies_that_compute_nothing_again() {
    let app = Setup::default().app();
    let (id, _) = create(&app, json!({"kind": "clock"})).await;
    let live = json!({"side": id, "binding": "live"});
    for (fields, param) in [
        (json!({"join": {"policy": "boundary", "tokens": 2}}), "join.policy"),
        (json!({"join": {"policy": "recompute"}}), "join.policy"),
        (json!({"seal": true}), "seal"),
        (json!({"compose": [live, live]}), "compose"),
    ] {
        let mut body = json!({"compose": [live], "tail": [{"text": "x"}], "max_tokens": 1});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let error = &call_json(&app, "POST /v1/generate", body).await.expect(400)["error"];
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!("not_live")));
    }
}

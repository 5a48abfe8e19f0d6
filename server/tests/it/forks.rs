//! Forks of generations, and several answers to one request.

use crate::harness::{Setup, call, call_json, metric};
use axum::Router;
use serde_json::{Value, json};

const GENERATE: &str = "POST /v1/generate";
const CHAT: &str = "POST /v1/chat/completions";

/// Begins an answer in the background and waits until it has some tokens.
async fn begun(app: &Router, tokens: usize) -> String {
    let text = "a".repeat(70);
    let body = json!({
        "compose": [{"text": "one"}], "tail": [{"text": text}], "temperature": 0,
        "max_tokens": 300, "background": true,
    });
    let id = call_json(app, GENERATE, body).await.expect(202)["id"].as_str().unwrap().to_owned();
    loop {
        let now = call(app, &format!("GET /v1/generations/{id}"), "").await.expect(200);
        assert!(now["status"] != "completed", "it ended before it could be forked");
        if now["tokens"].as_array().unwrap().len() >= tokens {
            return id;
        }
    }
}

async fn fork(app: &Router, id: &str, body: Value) -> Value {
    call_json(app, &format!("POST /v1/generations/{id}/fork"), body).await.expect(200)
}

#[tokio::test]
async fn a_fork_goes_on_from_anywhere_and_computes_one_row() {
    let app = Setup::slow().app();
    let id = begun(&app, 5).await;
    let (copied, before) = (metric(&app, "cento_rows_copied_total").await, "bcdefghij");
    let forked = fork(&app, &id, json!({"at": 4, "max_tokens": 5})).await;
    assert_eq!(forked["text"], before[4..9], "what comes after b, c, d and e");
    let join = &forked["join"];
    assert_eq!((&join["tail_tokens"], &join["reused_tokens"]), (&json!(74), &json!(3)));
    // All but the last token of its tail was there: 73 rows and the root.
    let root = join["root_tokens"].as_u64().unwrap();
    assert_eq!(join["prefix_reused_tokens"], json!(73 + root));
    let copied = metric(&app, "cento_rows_copied_total").await - copied;
    assert!(copied < 32.0, "{copied} rows copied: at most those of the last page");
    assert!(metric(&app, "cento_rows_adopted_total").await >= 73.0);

    // The one it came from goes on as if nothing had been.
    let cancelled = call(&app, &format!("POST /v1/generations/{id}/cancel"), "").await.expect(200);
    assert!(cancelled["text"].as_str().unwrap().starts_with(before));
    let ended = fork(&app, &id, json!({"at": 2, "max_tokens": 3})).await;
    assert_eq!(ended["text"], "def", "a fork of what has ended");
}

#[tokio::test]
async fn a_fork_takes_further_turns() {
    let app = Setup::default().app();
    let body = json!({"tail": [{"role": "user", "text": "m"}], "temperature": 0, "max_tokens": 3});
    let first = call_json(&app, GENERATE, body).await.expect(200);
    let id = first["id"].as_str().unwrap();
    let more = json!({"tail": [{"role": "user", "text": "xy"}], "max_tokens": 2});
    let forked = fork(&app, id, more).await;
    let (before, after) = (&first["join"]["tail_tokens"], &forked["join"]["tail_tokens"]);
    assert!(after.as_u64() > before.as_u64().map(|tokens| tokens + 3 + 2), "{forked}");
}

#[tokio::test]
async fn several_answers_share_a_prefill() {
    let app = Setup::slow().app();
    let tail = "t".repeat(96);
    let body = json!({
        "compose": [{"text": "one"}], "tail": [{"text": tail}], "temperature": 1.5, "seed": 7,
        "max_tokens": 40, "n": 3,
    });
    let list = call_json(&app, GENERATE, body.clone()).await.expect(200);
    let data = list["data"].as_array().unwrap();
    let seeds: Vec<_> = data.iter().map(|answer| answer["seed"].as_u64().unwrap()).collect();
    assert_eq!((list["object"].as_str(), seeds), (Some("list"), vec![7, 8, 9]));
    for (answer, seed) in data.iter().zip(7..) {
        let mut alone = body.clone();
        alone["n"] = json!(1);
        alone["seed"] = json!(seed);
        assert_eq!(call_json(&app, GENERATE, alone).await.expect(200)["text"], answer["text"]);
    }
    for answer in &data[1..] {
        let join = &answer["join"];
        let root = join["root_tokens"].as_u64().unwrap();
        assert_eq!(join["prefix_reused_tokens"], json!(95 + root), "{join}");
    }
}

#[tokio::test]
async fn a_chat_has_several_answers() {
    let app = Setup::slow().app();
    let chat = |fields: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "m"}], "max_tokens": 4,
            "temperature": 1.8, "seed": 3});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    let whole = call_json(&app, CHAT, chat(json!({"n": 3}))).await.expect(200);
    let choices = whole["choices"].as_array().unwrap();
    for (index, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], index);
        let alone = chat(json!({"seed": 3 + index}));
        let alone = call_json(&app, CHAT, alone).await.expect(200);
        assert_eq!(alone["choices"][0]["message"], choice["message"]);
    }
    let (usage, one) = (&whole["usage"], &whole["usage"]["completion_tokens"]);
    assert_eq!((choices.len(), one), (3, &json!(12)));
    let sum = usage["prompt_tokens"].as_u64().unwrap() + 12;
    assert_eq!(usage["total_tokens"], json!(sum));
}

#[tokio::test]
async fn bad_forks_are_refused_by_name() {
    let app = Setup::default().app();
    let body = json!({"tail": [{"text": "a"}], "temperature": 0, "max_tokens": 3});
    let first = call_json(&app, GENERATE, body.clone()).await.expect(200);
    let path = format!("POST /v1/generations/{}/fork", first["id"].as_str().unwrap());
    for (body, param, says) in [
        (json!({"at": 4}), "at", "from 0 to 3"),
        (json!({"n": 17}), "n", "from 1 to 16"),
        (json!({"n": 2, "stream": true}), "n", "a stream is of one answer"),
        (json!({"temperature": 3}), "temperature", "from 0 to 2"),
        (json!({"tail": []}), "tail", "empty"),
    ] {
        let error = &call_json(&app, &path, body).await.expect(400)["error"];
        assert_eq!(error["param"], param, "{error}");
        assert!(error["message"].as_str().unwrap().contains(says), "{error}");
    }
    let unknown = call_json(&app, "POST /v1/generations/gen_0/fork", json!({})).await.expect(404);
    assert_eq!(unknown["error"]["code"], "generation_not_found");
}

//! What a server with a cache folder knows again when it is started once more.

use crate::harness::{Setup, call, call_json};
use axum::Router;
use cento::{AppState, Ended};
use serde_json::{Value, json};
use std::{fs, path::Path, sync::Arc, time::Duration};
use tokio::net::TcpListener;

fn start(dir: &Path) -> (Arc<AppState>, Router) {
    let state = Setup { cache: Some(dir.to_owned()), ..Setup::default() }.state();
    (Arc::clone(&state), cento::app(state))
}

/// Serves for a moment, and ends as a server that is told to stop does.
async fn stop(state: Arc<AppState>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let grace = Duration::from_secs(10);
    let ended = cento::serve(listener, state, std::future::ready(()), grace).await.unwrap();
    assert_eq!(ended, Ended::Told);
}

/// A greedy answer with its scores, and what it was made of.
async fn ask(app: &Router, compose: Value, seal: bool) -> Value {
    let body = json!({
        "root": {"tokens": [256, 10]}, "compose": compose, "tail": [{"role": "user", "text": "x"}],
        "join": {"policy": "boundary", "tokens": 2}, "seal": seal, "max_tokens": 4,
        "temperature": 0, "logprobs": 3,
    });
    call_json(app, "POST /v1/generate", body).await.expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_turn_is_placed_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (state, app) = start(dir.path());
    let turn = ask(&app, json!([{"text": "a passage"}, {"text": "another"}]), true).await;
    let id = turn["sealed"].as_str().expect("an id").to_owned();
    let over = || json!([{"fragment": id}, {"text": "another"}]);
    let before = ask(&app, over(), false).await;
    let path = format!("GET /v1/fragments/{id}");
    let known = call(&app, &path, "").await.expect(200);
    assert_eq!(known["contextual"]["saw"].as_array().unwrap().len(), 2);
    stop(state).await;

    let (state, app) = start(dir.path());
    let again = call(&app, &path, "").await.expect(200);
    assert_eq!((&again["cached"], &again["stored"]), (&json!(false), &json!(true)), "{again}");
    for same in ["contextual", "text", "tokens", "root_tokens"] {
        assert_eq!(again[same], known[same], "{same}");
    }
    let after = ask(&app, over(), false).await;
    for same in ["text", "tokens", "logprobs", "fragments"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    assert_eq!(after["join"]["encoded_tokens"], json!(0), "{after}");
    stop(state).await;

    let folder = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let file = folder.join(format!("{id}.safetensors"));
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let (state, app) = start(dir.path());
    let body = json!({"root": {"tokens": [256, 10]}, "compose": over(), "tail": [{"text": "x"}]});
    let refused = call_json(&app, "POST /v1/generate", body).await.expect(404);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains(&id), "{message}");
    call(&app, &path, "").await.expect(404);
    stop(state).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_back_with_their_fragments() {
    let dir = tempfile::tempdir().unwrap();
    let (state, app) = start(dir.path());
    let body = json!({"text": "a passage", "name": "the passage"});
    let put = call_json(&app, "POST /v1/fragments", body).await.expect(200);
    call_json(&app, "POST /v1/fragments", json!({"text": "no name"})).await.expect(200);
    let dropped = json!({"text": "dropped", "name": "dropped"});
    let dropped = call_json(&app, "POST /v1/fragments", dropped).await.expect(200);
    let path = format!("DELETE /v1/fragments/{}", dropped["id"].as_str().unwrap());
    call(&app, &path, "").await.expect(200);
    let listed = call(&app, "GET /v1/fragments", "").await.expect(200);
    stop(state).await;

    let names = |listed: &Value| {
        let listed = listed["data"].as_array().unwrap().iter();
        let mut names: Vec<_> =
            listed.map(|one| ["id", "name", "created"].map(|field| one[field].clone())).collect();
        names.sort_by_key(|fields| fields[0].to_string());
        names
    };
    let (state, app) = start(dir.path());
    let again = call(&app, "GET /v1/fragments", "").await.expect(200);
    assert_eq!(names(&again), names(&listed));
    let known = json!([put["id"], "the passage", put["created"]]);
    assert!(put["created"].is_u64() && names(&again).contains(&as_array(&known)), "{again}");
    assert_eq!(names(&again).len(), 2, "what was dropped is gone: {again}");
    stop(state).await;

    // A file that is none costs the names and nothing else.
    let folder = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    fs::write(folder.join("fragment-names.json"), "{\"format\"").unwrap();
    let (state, app) = start(dir.path());
    let nameless = call(&app, "GET /v1/fragments", "").await.expect(200);
    assert_eq!(nameless["data"].as_array().unwrap().len(), 2, "{nameless}");
    assert!(names(&nameless).iter().all(|fields| fields[1].is_null()), "{nameless}");
    let body = json!({"text": "a passage", "name": "once more"});
    call_json(&app, "POST /v1/fragments", body).await.expect(200);
    stop(state).await;
    let (state, app) = start(dir.path());
    let last = call(&app, "GET /v1/fragments", "").await.expect(200);
    assert!(names(&last).iter().any(|fields| fields[1] == "once more"), "{last}");
    assert!(folder.join("fragment-names.json.bad").exists());
    stop(state).await;
}

fn as_array(fields: &Value) -> [Value; 3] {
    [0, 1, 2].map(|field| fields[field].clone())
}

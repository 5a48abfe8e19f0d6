//! Streams of what happens to side contexts: complete, resumable, and over when the context is.

use crate::harness::{Setup, SseEvent, call, call_json, events, metric, send};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, Response},
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

async fn create(app: &Router, body: Value) -> String {
    let made = call_json(app, "POST /v1/side-contexts", body).await.expect(200);
    made["id"].as_str().expect("an id").to_owned()
}

async fn push(app: &Router, id: &str, text: &str) {
    let path = format!("POST /v1/side-contexts/{id}/entries");
    call_json(app, &path, json!({"text": text})).await.expect(200);
}

/// Begins to read; the stream goes on until the context is deleted.
async fn open(app: &Router, request: axum::http::request::Builder) -> Response<Body> {
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

async fn read(response: Response<Body>) -> Vec<SseEvent> {
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    events(std::str::from_utf8(&bytes).unwrap())
}

#[tokio::test]
async fn a_stream_tells_what_happens_and_resumes_anywhere() {
    let app = Setup::default().app();
    let id = create(&app, json!({"kind": "feed", "max_entries": 2})).await;
    let path = format!("/v1/side-contexts/{id}/events");
    for text in ["one", "two", "three"] {
        push(&app, &id, text).await;
    }
    call(&app, &format!("DELETE /v1/side-contexts/{id}/entries/2"), "").await.expect(200);

    let whole = open(&app, Request::get(&path)).await;
    let mut rest = Vec::new();
    for seen in 0..5 {
        let query = open(&app, Request::get(format!("{path}?starting_after={seen}"))).await;
        let header = Request::get(&path).header("last-event-id", seen.to_string());
        rest.push((query, open(&app, header).await));
    }
    push(&app, &id, "four, while they read").await;
    call(&app, &format!("DELETE /v1/side-contexts/{id}"), "").await.expect(200);

    let whole = read(whole).await;
    let told: Vec<_> = whole.iter().map(|event| (event.id, event.kind.as_str())).collect();
    assert_eq!(
        told,
        [
            (Some(0), "side_context.changed"),
            (Some(1), "side_context.changed"),
            (Some(2), "side_context.changed"),
            (Some(3), "side_context.rolled_off"),
            (Some(4), "side_context.changed"),
            (Some(5), "side_context.changed"),
            (Some(6), "side_context.deleted"),
            (None, ""),
        ]
    );
    let data: Vec<Value> = whole[..7].iter().map(SseEvent::json).collect();
    for (event, data) in whole.iter().zip(&data) {
        assert_eq!(data["type"], event.kind);
        assert_eq!(data["sequence_number"], event.id.unwrap());
    }
    assert_eq!((&data[2]["version"], &data[2]["entries"]), (&json!(3), &json!([3])));
    assert!(data[2]["tokens"].as_u64() > data[1]["tokens"].as_u64(), "{data:?}");
    assert!(data[2]["age_ms"].as_f64().unwrap() >= 0.0);
    assert_eq!((&data[3]["entries"], &data[3]["why"]), (&json!([1]), &json!("entries")));
    assert_eq!((&data[4]["entries"], &data[4]["removed"]), (&json!([]), &json!([2])));
    assert_eq!(data[6]["id"], id);
    assert_eq!(whole[7].data, "[DONE]");

    let ids = |events: &[SseEvent]| events.iter().map(|event| event.id).collect::<Vec<_>>();
    for (seen, (query, header)) in rest.into_iter().enumerate() {
        assert_eq!(ids(&read(query).await), ids(&whole[seen + 1..]), "after {seen}");
        assert_eq!(ids(&read(header).await), ids(&whole[seen + 1..]), "after {seen}");
    }
    assert_eq!(metric(&app, "cento_side_changes_total").await, 5.0);
    assert_eq!(metric(&app, "cento_side_rolled_off_total").await, 1.0);
    call(&app, &format!("GET {path}"), "").await.expect(404);
}

#[tokio::test]
async fn who_comes_too_late_is_told_how_much_was_missed() {
    let app = Setup::default().app();
    let id = create(&app, json!({"kind": "feed", "max_entries": 1})).await;
    let path = format!("/v1/side-contexts/{id}/events");
    // Each but the first is two events.
    for n in 0..300 {
        push(&app, &id, &n.to_string()).await;
    }
    let late = open(&app, Request::get(format!("{path}?starting_after=9"))).await;
    call(&app, &format!("DELETE /v1/side-contexts/{id}"), "").await.expect(200);
    let late = read(late).await;
    // 599 events and the deletion make 600, of which 512 are held.
    assert_eq!((late[0].kind.as_str(), late[0].id), ("side_context.gap", Some(87)));
    assert_eq!(late[0].json()["missed"], 78);
    assert_eq!(late[1].id, Some(88));
    assert_eq!(late[late.len() - 2].id, Some(599));
}

#[tokio::test]
async fn a_clocks_ticks_are_events() {
    let state = Setup::default().state();
    let app = cento::app(std::sync::Arc::clone(&state));
    let body = json!({"kind": "clock", "template": "%s", "tick_seconds": 0.1});
    let id = create(&app, body).await;
    let stream = open(&app, Request::get(format!("/v1/side-contexts/{id}/events"))).await;
    let keeper = tokio::spawn(cento::side::upkeep(state));
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    keeper.abort();
    call(&app, &format!("DELETE /v1/side-contexts/{id}"), "").await.expect(200);
    let told = read(stream).await;
    let ticks = told.iter().filter(|event| event.kind == "side_context.changed").count();
    assert!(ticks >= 3, "{told:?}");
}

#[tokio::test]
async fn what_is_no_place_in_a_stream_is_refused() {
    let app = Setup::default().app();
    let id = create(&app, json!({"kind": "feed"})).await;
    let path = format!("/v1/side-contexts/{id}/events");
    let request = Request::get(&path).header("last-event-id", "x").body(Body::empty()).unwrap();
    assert_eq!(send(&app, request).await.expect(400)["error"]["param"], "Last-Event-ID");
    call(&app, &format!("GET {path}?starting_after=x"), "").await.expect(400);
    call(&app, "GET /v1/side-contexts/sc_none/events", "").await.expect(404);
}

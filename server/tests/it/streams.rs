//! Streams: their events, resuming, background, cancelling.

use crate::harness::{Setup, SseEvent, call, call_json, events, send, wait_for_metric};
use axum::{Router, body::Body, http::Request};
use serde_json::{Value, json};

const GENERATE: &str = "POST /v1/generate";

async fn stream(app: &Router, fields: Value) -> Vec<SseEvent> {
    let mut body = json!({"tail": [{"text": "-"}], "stream": true, "temperature": 0});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let answer = call_json(app, GENERATE, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    events(&answer.text)
}

fn kinds(events: &[SseEvent]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

#[tokio::test]
async fn a_stream_tells_everything_in_order() {
    let app = Setup::default().app();
    let fields = json!({"max_tokens": 3, "logprobs": 1, "echo": true, "stop": "bcx"});
    let events = stream(&app, fields).await;
    assert_eq!(
        kinds(&events),
        [
            "generation.created",
            "generation.scored",
            "generation.token",
            "generation.token",
            "generation.token",
            "generation.text",
            "generation.completed",
            "",
        ]
    );
    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
    assert_eq!(ids, [Some(0), Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), None]);
    assert_eq!(events.last().unwrap().data, "[DONE]");

    let data: Vec<Value> = events[..7].iter().map(SseEvent::json).collect();
    for (event, data) in events.iter().zip(&data) {
        assert_eq!(data["type"], event.kind);
        assert_eq!(data["sequence_number"], event.id.unwrap());
    }
    assert_eq!(data[0]["generation"]["status"], "queued");
    assert_eq!(data[1]["next_top"][0][0], 97);
    assert_eq!(data[2]["token"], 97);
    assert_eq!(data[2]["top"][0][0], 97);
    let said: String = data.iter().filter_map(|data| data["text"].as_str()).collect();
    let whole = &data[6]["generation"];
    assert_eq!((said.as_str(), &whole["text"]), ("abc", &json!("abc")));
    assert_eq!(
        (&whole["status"], &whole["finish_reason"]),
        (&json!("completed"), &json!("length"))
    );

    // Nothing about an answer depends on how it is read.
    let path = format!("GET /v1/generations/{}", whole["id"].as_str().unwrap());
    assert_eq!(&call(&app, &path, "").await.expect(200), whole);
}

#[tokio::test]
async fn a_stream_resumes_anywhere() {
    let app = Setup::default().app();
    let all = stream(&app, json!({"max_tokens": 6})).await;
    let id = all[0].json()["generation"]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/generations/{id}/events");
    let again = events(&call(&app, &format!("GET {path}"), "").await.text);
    assert_eq!(again, all);
    for seen in 0..all.len() + 2 {
        let rest = all.get(seen + 1..).filter(|rest| !rest.is_empty());
        let rest = rest.unwrap_or(&all[all.len() - 1..]);
        let query = call(&app, &format!("GET {path}?starting_after={seen}"), "").await;
        assert_eq!(events(&query.text), rest, "after {seen}");
        let request = Request::get(&path).header("last-event-id", seen.to_string());
        let header = send(&app, request.body(Body::empty()).unwrap()).await;
        assert_eq!(events(&header.text), rest, "after {seen}");
    }
    let request = Request::get(&path).header("last-event-id", "x").body(Body::empty()).unwrap();
    assert_eq!(send(&app, request).await.expect(400)["error"]["param"], "Last-Event-ID");
}

#[tokio::test]
async fn a_background_generation_needs_no_reader() {
    let app = Setup::slow().app();
    let body = json!({
        "tail": [{"text": "-"}], "background": true, "max_tokens": 30, "temperature": 0,
    });
    let begun = call_json(&app, GENERATE, body).await.expect(202);
    assert!(begun["status"] == "queued" || begun["status"] == "in_progress", "{begun}");
    let path = format!("/v1/generations/{}", begun["id"].as_str().unwrap());
    // Reads live from where it stands to its end.
    let rest = events(&call(&app, &format!("GET {path}/events?starting_after=0"), "").await.text);
    let tokens = rest.iter().filter(|event| event.kind == "generation.token").count();
    assert_eq!(tokens, 30);
    let ended = call(&app, &format!("GET {path}"), "").await.expect(200);
    assert_eq!(ended["status"], "completed");
    assert_eq!(ended["usage"]["completion_tokens"], 30);
}

#[tokio::test]
async fn a_background_stream_outlives_its_reader() {
    let state = Setup::slow().state();
    let app = cento::app(state);
    let body = json!({
        "tail": [{"text": "-"}], "background": true, "stream": true, "max_tokens": 30,
    });
    let request = Request::post("/v1/generate").body(Body::from(body.to_string())).unwrap();
    let response = tower::ServiceExt::oneshot(app.clone(), request).await.unwrap();
    assert_eq!(response.status(), 200);
    drop(response);
    wait_for_metric(&app, "cento_generations_total{outcome=\"length\"}", |n| n == 1.0).await;
}

#[tokio::test]
async fn a_cancelled_generation_says_so_everywhere() {
    let app = Setup::slow().app();
    let body = json!({"tail": [{"text": "-"}], "background": true, "max_tokens": 1_000_000});
    let begun = call_json(&app, GENERATE, body).await.expect(202);
    let path = format!("/v1/generations/{}", begun["id"].as_str().unwrap());
    let reader = tokio::spawn({
        let (app, line) = (app.clone(), format!("GET {path}/events"));
        async move { events(&call(&app, &line, "").await.text) }
    });
    let cancel = format!("POST {path}/cancel");
    let cancelled = call(&app, &cancel, "").await.expect(200);
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(cancelled["finish_reason"], "cancelled");
    assert_eq!(call(&app, &cancel, "").await.expect(200), cancelled, "twice is once");
    let read = reader.await.unwrap();
    let [.., last, done] = read.as_slice() else { panic!("{read:?}") };
    assert_eq!((last.kind.as_str(), done.data.as_str()), ("generation.cancelled", "[DONE]"));
    assert_eq!(last.json()["generation"], cancelled);
    wait_for_metric(&app, "cento_pages_sequences", |n| n == 0.0).await;
}

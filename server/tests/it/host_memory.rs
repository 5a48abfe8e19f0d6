//! `cento serve --host-kv-memory`: what is evicted is not encoded again.

use crate::{
    harness::{call, call_json, metric},
    served,
};
use axum::Router;
use serde_json::{Value, json};

async fn put(app: &Router, n: usize) -> Value {
    let body = json!({"text": format!("Passage number {n} says that there are {n} of them.")});
    call_json(app, "POST /v1/fragments", body).await.expect(200)
}

async fn digest(app: &Router, put: &Value) -> Value {
    let path = format!("GET /v1/fragments/{}?digest=true", put["id"].as_str().unwrap());
    call(app, &path, "").await.expect(200)["digest"].clone()
}

/// Tokens encoded and loaded, and evictions, so far.
async fn counted(app: &Router) -> [f64; 3] {
    // Once the engine has answered this, what it did before is counted.
    call(app, "GET /health", "").await.expect(200);
    [
        metric(app, "cento_tokens_encoded_total").await,
        metric(app, "cento_tokens_loaded_total").await,
        metric(app, "cento_evictions_total").await,
    ]
}

#[tokio::test]
async fn what_is_evicted_comes_back_without_being_encoded_again() {
    let _machine = served::MACHINE.lock().await;
    for (host, has_tier) in [("64MiB", true), ("0", false)] {
        let line = format!(
            "--model smollm2-135m --device cpu --threads 1 --kv-memory 8MiB --host-kv-memory {host}"
        );
        let app = served::serve(&line);
        let first = put(&app, 0).await;
        let before = digest(&app, &first).await;
        assert!(before.is_string(), "{before}");
        // More than fit.
        for n in 1..24 {
            put(&app, n).await;
        }
        let [encoded, loaded, evicted] = counted(&app).await;
        assert!(encoded > 0.0 && loaded == 0.0 && evicted > 0.0, "{encoded} {loaded} {evicted}");

        let again = put(&app, 0).await;
        assert_eq!((&again["cached"], &again["stored"]), (&json!(false), &json!(has_tier)));
        assert_eq!(digest(&app, &again).await, before, "the same bits, one way or the other");
        let tokens = again["tokens"].as_f64().unwrap();
        let [encoded_then, loaded_then, _] = counted(&app).await;
        let expected = if has_tier { [0.0, tokens] } else { [tokens, 0.0] };
        assert_eq!([encoded_then - encoded, loaded_then - loaded], expected, "{host}");
        assert_eq!(metric(&app, "cento_host_bytes").await > 0.0, has_tier);
    }
}

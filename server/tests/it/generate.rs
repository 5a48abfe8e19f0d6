//! Generations that are answered whole.

use crate::harness::{Setup, call, call_json, metric, wait_for_metric};
use cento::{Limits, Parallel, Profile};
use serde_json::{Value, json};
use std::time::Duration;

const GENERATE: &str = "POST /v1/generate";

#[tokio::test]
async fn the_result_accounts_for_every_token() {
    let app = Setup::default().app();
    let put = json!({"text": "cached passage", "name": "p", "root": {"tokens": [256, 10]}});
    let fragment = call_json(&app, "POST /v1/fragments", put).await.expect(200);
    let body = json!({
        "root": {"tokens": [256, 10]},
        "compose": [{"fragment": fragment["id"]}, {"text": "new one", "name": "q"}],
        "tail": [{"text": "x"}],
        "max_tokens": 5, "temperature": 0, "seed": 7,
    });
    let result = call_json(&app, GENERATE, body).await.expect(200);
    assert_eq!(result["object"], "generation");
    assert_eq!(result["status"], "completed");
    assert_eq!(result["text"], "yzabc");
    assert_eq!(result["tokens"], json!([121, 122, 97, 98, 99]));
    assert_eq!(result["finish_reason"], "length");
    assert_eq!(result["seed"], 7);
    assert_eq!(result["model"], "letters");
    let join = &result["join"];
    assert_eq!(join["policy"], "reuse");
    assert_eq!(join["root_tokens"], 2);
    assert_eq!(join["reused_tokens"], 14);
    assert_eq!(join["encoded_tokens"], 7);
    assert_eq!(join["recomputed_tokens"], 0);
    assert_eq!(join["tail_tokens"], 1);
    assert_eq!(join["output_tokens"], 5);
    assert_eq!(join["exact"], false);
    let listed = call(&app, "GET /v1/fragments", "").await.expect(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
    let listed_id = |name: &str| {
        let found = listed["data"].as_array().unwrap().iter().find(|one| one["name"] == name);
        found.unwrap()["id"].clone()
    };
    let usage = json!({"prompt_tokens": 24, "completion_tokens": 5, "total_tokens": 29});
    assert_eq!(result["usage"], usage);
    assert_eq!(
        result["fragments"],
        json!([
            {"id": fragment["id"], "name": "p", "tokens": 14, "other_root": false},
            {"id": listed_id("q"), "name": "q", "tokens": 7, "other_root": false},
        ])
    );
    for name in ["queue_ms", "join_ms", "prefill_ms", "first_token_ms"] {
        assert!(result["timings"][name].as_f64().unwrap() >= 0.0, "{name}");
    }
    assert_eq!(result["error"], Value::Null);

    let path = format!("GET /v1/generations/{}", result["id"].as_str().unwrap());
    assert_eq!(call(&app, &path, "").await.expect(200), result);
}

#[tokio::test]
async fn parallel_takes_from_the_profile_what_a_call_does_not_say() {
    let parallel =
        Parallel { temperature: 0.8, scale: 0.95, divergence: 0.1, before: 0.2, tokens: 9 };
    let profile = Profile { parallel: Some(parallel) };
    let app = Setup { profile, ..Setup::default() }.app();
    for (join, temperature, scale) in [
        (json!({"policy": "parallel"}), 0.8, 0.95),
        (json!({"policy": "parallel", "temperature": 2}), 2.0, 0.95),
        (json!({"policy": "parallel", "temperature": 1, "scale": 1}), 1.0, 1.0),
    ] {
        let body = json!({
            "compose": [{"text": "ab"}], "tail": [{"text": "x"}], "join": join, "max_tokens": 1,
        });
        let used = call_json(&app, GENERATE, body).await.expect(200)["join"].clone();
        assert_eq!((&used["temperature"], &used["scale"]), (&json!(temperature), &json!(scale)));
    }
}

#[tokio::test]
async fn a_fragment_of_another_root_is_used_by_its_tokens() {
    let app = Setup::default().app();
    let put = json!({"text": "passage", "root": {"tokens": [256, 10]}});
    let fragment = call_json(&app, "POST /v1/fragments", put).await.expect(200);
    let body = json!({
        "root": {"tokens": [256, 11]},
        "compose": [{"fragment": fragment["id"]}],
        "tail": [{"text": "x"}], "max_tokens": 1,
    });
    let result = call_json(&app, GENERATE, body).await.expect(200);
    assert_eq!(result["fragments"][0]["other_root"], true);
    assert_eq!(result["join"]["encoded_tokens"], 7);
    assert_eq!(result["join"]["reused_tokens"], 0);
}

#[tokio::test]
async fn answers_end_where_they_are_told_to() {
    let app = Setup::default().app();
    let cases = [
        (json!({"stop": "de"}), "abc", "stop"),
        (json!({"stop": ["zzz", "c"]}), "ab", "stop"),
        (json!({"max_tokens": 3}), "abc", "length"),
        (json!({"max_tokens": 0}), "", "length"),
        // Held back as the beginning of a stop text, and given out at the end.
        (json!({"max_tokens": 4, "stop": "cdx"}), "abcd", "length"),
    ];
    for (fields, text, reason) in cases {
        let mut body = json!({"tail": [{"text": "-"}], "temperature": 0, "max_tokens": 20});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let result = call_json(&app, GENERATE, body.clone()).await.expect(200);
        assert_eq!(
            (&result["text"], &result["finish_reason"]),
            (&json!(text), &json!(reason)),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_turn_that_awaits_an_answer_opens_the_models_turn() {
    let app = Setup::default().app();
    let tail_tokens = async |tail: Value| {
        let body = json!({"tail": tail, "max_tokens": 0});
        call_json(&app, GENERATE, body).await.expect(200)["join"]["tail_tokens"].as_u64().unwrap()
    };
    let opening = "assistant\n".len() as u64 + 1;
    let user = tail_tokens(json!([{"role": "user", "text": "x"}])).await;
    let user_then_text = tail_tokens(json!([{"role": "user", "text": "x"}, {"text": "y"}])).await;
    assert_eq!(user, user_then_text - 1 + opening);
    let tool = tail_tokens(json!([{"role": "tool", "text": "x"}])).await;
    assert_eq!(tool, user);
}

#[tokio::test]
async fn the_tail_is_scored() {
    let app = Setup::default().app();
    let body = json!({
        "tail": [{"text": "abz"}], "max_tokens": 0, "echo": true, "logprobs": 2,
    });
    let result = call_json(&app, GENERATE, body).await.expect(200);
    let scores = result["tail_logprobs"].as_array().unwrap();
    assert_eq!(scores.len(), 2);
    assert_eq!(scores[0]["token"], 98);
    assert!(scores[0]["logprob"].as_f64().unwrap() > -0.01);
    assert_eq!(scores[1]["token"], 122);
    assert!(scores[1]["logprob"].as_f64().unwrap() < -30.0);
    assert_eq!(scores[1]["top"][0][0], 99);
    assert_eq!(scores[1]["top"].as_array().unwrap().len(), 2);
    assert_eq!(result["next_top"][0][0], 97);
    assert_eq!(result["logprobs"], json!([]));
}

#[tokio::test]
async fn a_known_answer_is_scored() {
    let app = Setup::default().app();
    let body = json!({
        "tail": [{"text": "a"}], "max_tokens": 3, "forced": [98, 122], "logprobs": 2,
    });
    let result = call_json(&app, GENERATE, body).await.expect(200);
    assert_eq!(result["text"], "bza", "two letters as given, then the alphabet goes on");
    let scores = result["logprobs"].as_array().unwrap();
    assert!(scores[0]["logprob"].as_f64().unwrap() > -0.01);
    assert!(scores[1]["logprob"].as_f64().unwrap() < -30.0);
    assert_eq!(scores[1]["top"][0][0], 99);
}

#[tokio::test]
async fn a_drawn_seed_replays() {
    let app = Setup::default().app();
    let mut body = json!({"tail": [{"text": "a"}], "max_tokens": 40, "temperature": 2});
    let drawn = call_json(&app, GENERATE, body.clone()).await.expect(200);
    let seed = drawn["seed"].as_u64().unwrap();
    assert!(seed < 1 << 53, "{seed}");
    body["seed"] = seed.into();
    let again = call_json(&app, GENERATE, body).await.expect(200);
    assert_eq!(again["tokens"], drawn["tokens"]);
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let app = Setup { waiting_max: 1, running_max: 1, ..Setup::slow() }.app();
    let body = json!({"tail": [{"text": "a"}], "max_tokens": 1_000_000, "background": true});
    let mut ids = Vec::new();
    let refused = loop {
        let answer = call_json(&app, GENERATE, body.clone()).await;
        if answer.status != 202 {
            break answer;
        }
        ids.push(answer.json()["id"].as_str().unwrap().to_owned());
        assert!(ids.len() < 10, "nothing was refused");
    };
    assert_eq!(refused.headers["retry-after"], "1");
    let error = refused.expect(429);
    assert_eq!(error["error"]["type"], "rate_limit_error");
    let metrics = call(&app, "GET /metrics", "").await.text;
    let failed = metrics.lines().find(|line| line.contains("outcome=\"failed\""));
    assert!(
        failed.is_none_or(|line| line.ends_with(" 0")),
        "what is refused never began: {failed:?}"
    );
    for id in ids {
        call(&app, &format!("POST /v1/generations/{id}/cancel"), "").await.expect(200);
    }
    wait_for_metric(&app, "cento_pages_sequences", |n| n == 0.0).await;
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up() {
    let limits = Limits { response_timeout: Duration::from_millis(200), ..Limits::DEFAULT };
    let app = Setup { limits, ..Setup::slow() }.app();
    let body = json!({"tail": [{"text": "a"}], "max_tokens": 1_000_000});
    let error = call_json(&app, GENERATE, body).await.expect(408);
    assert_eq!(error["error"]["code"], "timeout");
    wait_for_metric(&app, "cento_generations_running", |n| n == 0.0).await;
    wait_for_metric(&app, "cento_pages_sequences", |n| n == 0.0).await;
}

#[tokio::test]
async fn health_and_metrics_tell() {
    let app = Setup::default().app();
    let health = call(&app, "GET /health", "").await.expect(200);
    assert_eq!((&health["status"], &health["model"]), (&json!("ok"), &json!("letters")));
    let body = json!({"tail": [{"text": "a"}], "max_tokens": 3});
    call_json(&app, GENERATE, body).await.expect(200);
    // The loop tells its numbers once the step is over that gave the last token.
    wait_for_metric(&app, "cento_tokens_generated_total", |n| n == 3.0).await;
    let request = "cento_http_requests_total{route=\"/v1/generate\",status=\"200\"}";
    assert_eq!(metric(&app, request).await, 1.0);
    assert_eq!(metric(&app, "cento_generations_total{outcome=\"length\"}").await, 1.0);
    assert_eq!(metric(&app, "cento_first_token_seconds_count").await, 1.0);
}

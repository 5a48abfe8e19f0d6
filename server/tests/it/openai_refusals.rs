//! What the OpenAI shim refuses: status, field, and what the message names.

use crate::harness::{Setup, call};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// A good request with one field changed; refused at `param`, in words that hold `says`.
async fn check(path: &str, cases: &[(&str, Value, &str, &str)]) {
    let app = Setup::default().app();
    let good = match path {
        CHAT => json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": 2}),
        _ => json!({"prompt": "x", "max_tokens": 2}),
    };
    call(&app, &format!("POST {path}"), good.to_string()).await.expect(200);
    for (field, value, param, says) in cases {
        let mut body = good.clone();
        body[*field] = value.clone();
        let error = call(&app, &format!("POST {path}"), body.to_string()).await.expect(400);
        let error = &error["error"];
        assert_eq!(error["type"], "invalid_request_error", "{body}");
        assert_eq!(error["param"], *param, "{body}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(says), "{body}: {message:?} lacks {says:?}");
    }
}

#[tokio::test]
async fn of_a_chat() {
    let cases = [
        ("messages", json!([]), "messages", "at least one"),
        ("messages", json!([{"role": "x", "content": "y"}]), "messages[0].role", "\"x\""),
        ("max_tokens", json!(-1), "max_tokens", "-1"),
        ("max_tokens", json!(0), "max_tokens", "at least 1"),
        ("max_completion_tokens", json!(3), "max_tokens", "2 and max_completion_tokens 3"),
        ("temperature", json!(2.5), "temperature", "2.5"),
        ("temperature", json!(-0.1), "temperature", "-0.1"),
        ("top_p", json!(1.5), "top_p", "1.5"),
        ("top_p", json!(0), "top_p", "0"),
        ("top_k", json!(-1), "top_k", "-1"),
        ("min_p", json!(2), "min_p", "2"),
        ("presence_penalty", json!(3), "presence_penalty", "-2 to 2"),
        ("frequency_penalty", json!(-3), "frequency_penalty", "-2 to 2"),
        ("repetition_penalty", json!(0), "repetition_penalty", "0"),
        ("top_logprobs", json!(21), "top_logprobs", "20"),
        ("top_logprobs", json!(2), "top_logprobs", "logprobs"),
        ("stop", json!(""), "stop[0]", "empty"),
        ("stop", json!(vec!["x"; 17]), "stop", "17"),
        ("n", json!(17), "n", "from 1 to 16"),
        ("logit_bias", json!({"50": 1}), "logit_bias", "logit_bias"),
        ("tools", json!([{}]), "tools", "tools"),
        ("response_format", json!({"type": "json_schema"}), "response_format", "json_schema"),
        ("stream_options", json!({"include_usage": true}), "stream_options", "stream: true"),
        ("temprature", json!(1), "temprature", "unknown field"),
        ("seed", json!("x"), "seed", "invalid type"),
        ("service_tier", json!("first"), "service_tier", "priority"),
        ("cento", json!({"compose": [{}]}), "cento.compose[0]", "exactly one of"),
        ("cento", json!({"join": {"policy": "x"}}), "cento.join.policy", "\"x\""),
        ("cento", json!({"join": {"policy": "query"}}), "cento.join.ratio", "at most 1"),
        ("cento", json!({"roots": 1}), "cento.roots", "unknown field"),
    ];
    check(CHAT, &cases).await;
}

#[tokio::test]
async fn of_a_completion() {
    let cases = [
        ("prompt", json!([]), "prompt", "empty"),
        ("prompt", json!([[]]), "prompt[0]", "empty"),
        ("prompt", json!(7), "prompt", "a text or a list"),
        ("prompt", json!(null), "prompt", "a text or a list"),
        ("prompt", json!([1, "a"]), "prompt[0]", "a text or a list"),
        ("prompt", json!([[1], ["a"]]), "prompt[1]", "token ids only"),
        ("prompt", json!([-1]), "prompt", "token ids only"),
        ("prompt", json!([259]), "prompt", "259"),
        ("prompt", json!([4_294_967_296_u64]), "prompt", "token ids only"),
        ("prompt", json!(vec!["a"; 65]), "prompt", "65"),
        ("max_tokens", json!(-1), "max_tokens", "-1"),
        ("logprobs", json!(21), "logprobs", "20"),
        ("logprobs", json!(-1), "logprobs", "-1"),
        ("service_tier", json!("first"), "service_tier", "priority"),
        ("best_of", json!(2), "best_of", "only 1"),
        ("suffix", json!("x"), "suffix", "infilling"),
        ("stop", json!(""), "stop[0]", "empty"),
        ("cento", json!({}), "cento", "unknown field"),
    ];
    check(COMPLETIONS, &cases).await;
}

#[tokio::test]
async fn of_a_prompt_that_does_not_fit() {
    let app = Setup::default().app();
    let limits = cento::Limits::DEFAULT;
    assert!(limits.body_bytes_max > crate::letters::CONTEXT, "the body would be refused first");
    let roomy = Setup { limits, ..Setup::default() }.app();
    let body = json!({"prompt": "x".repeat(crate::letters::CONTEXT), "max_tokens": 1});
    let line = format!("POST {COMPLETIONS}");
    let error = call(&roomy, &line, body.to_string()).await.expect(400);
    assert_eq!(error["error"]["code"], "context_length_exceeded");
    let error = call(&app, &line, body.to_string()).await.expect(413);
    assert_eq!(error["error"]["code"], "body_too_large");
    let error = call(&app, &line, "{").await.expect(400);
    assert_eq!(error["error"]["code"], "invalid_json");
    let error = call(&app, &line, "[]").await.expect(400);
    assert_eq!(error["error"]["type"], "invalid_request_error");
}

//! What the shim takes and refuses, without a model.

use super::{
    chat::{self, ChatRequest},
    check_model,
    completions::{self, CompletionRequest},
    messages::messages,
};
use serde_json::{Value, json};

/// Parses a chat and converts its messages; gives the refusal's param and message.
fn chat_refusal(body: Value) -> Option<(String, String)> {
    let Value::Object(map) = body else { panic!("a body is an object") };
    let result = chat::FIELDS.parse::<ChatRequest>(map).and_then(|chat| messages(&chat.messages));
    result.err().map(|error| {
        let object = error.body().error;
        (object.param.unwrap_or_default(), object.message)
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "Hi"}]});
    body[field] = value;
    body
}

#[test]
fn chats_are_refused_at_the_field_that_is_wrong() {
    let hi = || json!([{"role": "user", "content": "Hi"}]);
    let cases = [
        (json!({}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": "Hi"}), "messages"),
        (json!({"messages": [{"content": "Hi"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (json!({"messages": [{"role": "user", "content": null}]}), "messages[0].content"),
        (json!({"messages": [{"role": "user", "content": 7}]}), "messages[0].content"),
        (json!({"messages": [{"role": "bard", "content": "Hi"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user", "content": "Hi", "mood": 1}]}), "messages[0].mood"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages[0].content[0].type",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}),
            "messages[0].content[0].text",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}),
            "messages[0].tool_calls",
        ),
        (with("max_token", json!(1)), "max_token"),
        (with("max_tokens", json!("many")), "max_tokens"),
        (with("temperature", json!("hot")), "temperature"),
        (with("stop", json!(7)), "stop"),
        (with("stream", json!("yes")), "stream"),
        (with("stream_options", json!({"include": true})), "stream_options.include"),
        (with("tools", json!([{"type": "function"}])), "tools"),
        (with("tool_choice", json!("required")), "tool_choice"),
        (with("logit_bias", json!({"1": 5})), "logit_bias"),
        (with("response_format", json!({"type": "json_object"})), "response_format"),
        (with("modalities", json!(["text", "audio"])), "modalities"),
        (with("audio", json!({"voice": "x"})), "audio"),
        (with("cento", json!({"joint": {}})), "cento.joint"),
    ];
    for (body, param) in cases {
        let (given, message) = chat_refusal(body.clone()).unwrap_or_else(|| panic!("{body}"));
        assert_eq!(given, param, "{body}: {message}");
        let name = param.rsplit('.').next().unwrap();
        assert!(message.contains(name) || message.contains(param), "{body}: {message}");
    }
    assert_eq!(chat_refusal(json!({"messages": hi()})), None);
}

#[test]
fn what_clients_send_out_of_habit_is_taken() {
    let cases = [
        with("user", json!("u1")),
        with("store", json!(true)),
        with("metadata", json!({"a": "b"})),
        with("n", json!(3)),
        with("n", json!(null)),
        with("tools", json!([])),
        with("tool_choice", json!("auto")),
        with("logit_bias", json!({})),
        with("response_format", json!({"type": "text"})),
        with("modalities", json!(["text"])),
        with("stop", json!("x")),
        with("stop", json!(["x", "y"])),
        with("stop", json!(null)),
        with("temperature", json!(null)),
        with("temperature", json!(1)),
        with("seed", json!(-1)),
        with("stream_options", json!({"include_usage": true, "include_obfuscation": false})),
        // An answer as openai-python dumps it.
        json!({"messages": [{
            "role": "assistant", "content": "Hi", "refusal": null, "annotations": [],
            "audio": null, "function_call": null, "tool_calls": null, "name": "a",
        }]}),
    ];
    for body in cases {
        assert_eq!(chat_refusal(body.clone()), None, "{body}");
    }
}

#[test]
fn messages_become_turns() {
    let body = json!({"messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "text", "text": "One", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "two"},
        ]},
        {"role": "tool", "content": "7", "tool_call_id": "call_1"},
    ]});
    let Value::Object(map) = body else { unreachable!() };
    let chat: ChatRequest = chat::FIELDS.parse(map).unwrap();
    let turns: Vec<(String, String)> = messages(&chat.messages)
        .unwrap()
        .into_iter()
        .map(|turn| (turn.role, turn.content))
        .collect();
    let expected = [("system", "Be brief."), ("user", "One\ntwo"), ("tool", "7")];
    assert_eq!(turns, expected.map(|(role, text)| (role.to_owned(), text.to_owned())));
}

#[test]
fn completions_are_refused_at_the_field_that_is_wrong() {
    let cases = [
        (json!({}), "prompt"),
        (json!({"prompt": "a", "suffix": "b"}), "suffix"),
        (json!({"prompt": "a", "best_of": 3}), "best_of"),
        (json!({"prompt": "a", "n": 2}), "n"),
        (json!({"prompt": "a", "logprobs": true}), "logprobs"),
        (json!({"prompt": "a", "max_tokens": 1.5}), "max_tokens"),
        (json!({"prompt": "a", "cento": {}}), "cento"),
        (json!({"prompt": "a", "messages": []}), "messages"),
    ];
    for (body, param) in cases {
        let Value::Object(map) = body.clone() else { unreachable!() };
        let error = completions::FIELDS.parse::<CompletionRequest>(map).err();
        let object = error.unwrap_or_else(|| panic!("{body}")).body().error;
        assert_eq!(object.param.as_deref(), Some(param), "{body}: {}", object.message);
    }
}

#[test]
fn only_the_served_model_is_there() {
    for asked in [None, Some("default"), Some("smollm2-135m")] {
        assert!(check_model("smollm2-135m", asked).is_ok(), "{asked:?}");
    }
    let error = check_model("smollm2-135m", Some("gpt-4o")).unwrap_err();
    assert_eq!(error.status(), 404);
    let object = error.body().error;
    assert_eq!(object.code.as_deref(), Some("model_not_found"));
    assert!(object.message.contains("gpt-4o") && object.message.contains("smollm2-135m"));
}

//! The OpenAI shim's answers.

use crate::harness::{Answer, Setup, SseEvent, call, call_json, events, metric, wait_for_metric};
use axum::Router;
use serde_json::{Value, json};
use std::time::Duration;

const CHAT: &str = "POST /v1/chat/completions";
const COMPLETIONS: &str = "POST /v1/completions";

/// `base` with the fields of `more`.
fn merged(mut base: Value, more: &Value) -> Value {
    base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    base
}

fn chat(more: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "x"}]);
    merged(json!({"messages": messages, "temperature": 0, "max_tokens": 5}), more)
}

fn completion(more: &Value) -> Value {
    merged(json!({"prompt": "x", "temperature": 0, "max_tokens": 3}), more)
}

/// The frames of a stream that ends as it should.
fn frames(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let events = events(&answer.text);
    let (last, frames) = events.split_last().unwrap();
    assert_eq!(last.data, "[DONE]");
    frames.iter().map(SseEvent::json).collect()
}

async fn stream(app: &Router, line: &str, body: Value) -> Vec<Value> {
    frames(&call_json(app, line, merged(body, &json!({"stream": true}))).await)
}

#[tokio::test]
async fn the_served_model_is_listed() {
    let app = Setup::default().app();
    let model = json!({
        "id": "letters", "object": "model", "created": 1, "owned_by": "local",
        "context_length": 1_048_576, "fingerprint": "07".repeat(32),
    });
    let list = call(&app, "GET /v1/models", "").await.expect(200);
    assert_eq!(list, json!({"object": "list", "data": [model]}));
    for id in ["letters", "default"] {
        assert_eq!(call(&app, &format!("GET /v1/models/{id}"), "").await.expect(200), model);
    }
    let error = call(&app, "GET /v1/models/gpt-4o", "").await.expect(404);
    assert_eq!(error["error"]["code"], "model_not_found");
    for line in [CHAT, COMPLETIONS] {
        let body = if line == CHAT { chat(&json!({})) } else { completion(&json!({})) };
        let asked = merged(body, &json!({"model": "gpt-4o"}));
        let error = call_json(&app, line, asked).await.expect(404);
        assert_eq!(error["error"]["code"], "model_not_found");
        assert_eq!(error["error"]["param"], "model");
    }
}

#[tokio::test]
async fn a_chat_is_answered_as_openai_does() {
    let app = Setup::default().app();
    let answer = call_json(&app, CHAT, chat(&json!({"model": "letters"}))).await.expect(200);
    assert_eq!(answer["object"], "chat.completion");
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(answer["model"], "letters");
    assert_eq!(answer["system_fingerprint"], "fp_070707070707");
    let choice = json!({
        "index": 0,
        "message": {
            "role": "assistant", "content": "abcde", "refusal": null, "annotations": [],
        },
        "logprobs": null,
        "finish_reason": "length",
    });
    assert_eq!(answer["choices"], json!([choice]));
    // BOS, and two turns' text, each after a special token, one turn closed by another.
    let prompt = "user\nx\nassistant\n".len() + 4;
    let usage = json!({
        "prompt_tokens": prompt, "completion_tokens": 5, "total_tokens": prompt + 5,
        "prompt_tokens_details": {"cached_tokens": 0},
    });
    assert_eq!(answer["usage"], usage);
    assert_eq!(answer["cento"]["join"]["policy"], "recompute");
    assert_eq!(answer["cento"]["join"]["exact"], true);
    assert!(answer["cento"]["timings"]["first_token_ms"].is_number());
}

#[tokio::test]
async fn a_chat_is_what_the_template_makes_of_it() {
    let app = Setup::default().app();
    let messages = json!([
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "x"}]},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "<|im_end|>"},
    ]);
    let answer = call_json(&app, CHAT, chat(&json!({"messages": messages}))).await.expect(200);
    // What a user writes stays text: ten bytes.
    let text = "system\nBe brief.\nuser\nHi\nx\nassistant\nHello\nuser\n<|im_end|>\nassistant\n";
    assert_eq!(answer["usage"]["prompt_tokens"], text.len() + 10);
}

#[tokio::test]
async fn a_stream_has_several_answers() {
    let app = Setup::default().app();
    let body = merged(chat(&json!({"n": 3})), &json!({"temperature": 1.8, "seed": 3}));
    let whole = call_json(&app, CHAT, body.clone()).await.expect(200);
    let asked = merged(body, &json!({"stream_options": {"include_usage": true}}));
    let mut frames = stream(&app, CHAT, asked).await;
    let last = frames.pop().unwrap();
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
    for (index, choice) in whole["choices"].as_array().unwrap().iter().enumerate() {
        let of_answer = |frame: &&Value| frame["choices"][0]["index"] == json!(index);
        let deltas: Vec<&Value> =
            frames.iter().filter(of_answer).map(|frame| &frame["choices"][0]).collect();
        assert_eq!(deltas[0]["delta"]["role"], "assistant");
        let text: String =
            deltas.iter().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
        assert_eq!(choice["message"]["content"], text);
        assert_eq!(deltas.last().unwrap()["finish_reason"], choice["finish_reason"]);
    }
}

#[tokio::test]
async fn a_stream_says_what_the_whole_answer_says() {
    let app = Setup::default().app();
    let cases = [
        json!({}),
        json!({"max_tokens": 1}),
        json!({"stop": "d"}),
        json!({"stop": ["dx"]}),
        json!({"logprobs": true, "top_logprobs": 2, "stop": "dx"}),
        json!({"stream_options": {"include_usage": true}}),
    ];
    for case in cases {
        let mut whole_body = chat(&case);
        whole_body.as_object_mut().unwrap().remove("stream_options");
        let whole = call_json(&app, CHAT, whole_body).await.expect(200);
        let choice = &whole["choices"][0];
        let mut frames = stream(&app, CHAT, chat(&case)).await;
        if case["stream_options"].is_object() {
            let last = frames.pop().unwrap();
            assert_eq!(last["choices"], json!([]));
            assert_eq!(last["usage"], whole["usage"]);
            assert!(frames.iter().all(|frame| frame["usage"].is_null()), "{case}");
            assert!(frames[0].as_object().unwrap().contains_key("usage"), "{case}");
        } else {
            assert!(frames.iter().all(|frame| frame.get("usage").is_none()), "{case}");
        }
        assert_eq!(
            frames[0]["choices"][0]["delta"],
            json!({"role": "assistant", "content": ""}),
            "{case}"
        );
        let mut text = String::new();
        let mut scores = Vec::new();
        for frame in &frames {
            assert_eq!(frame["object"], "chat.completion.chunk");
            assert_eq!(frame["id"], frames[0]["id"]);
            let choice = &frame["choices"][0];
            text += choice["delta"]["content"].as_str().unwrap_or_default();
            if let Some(content) = choice["logprobs"]["content"].as_array() {
                scores.extend(content.clone());
            }
        }
        assert_eq!(json!(text), choice["message"]["content"], "{case}");
        let last = frames.last().unwrap();
        assert_eq!(last["choices"][0]["finish_reason"], choice["finish_reason"], "{case}");
        assert_eq!(last["choices"][0]["delta"], json!({}), "{case}");
        assert_eq!(last["cento"]["join"], whole["cento"]["join"], "{case}");
        if case["logprobs"] == true {
            assert_eq!(Value::Array(scores), choice["logprobs"]["content"], "{case}");
        }
    }
}

#[tokio::test]
async fn chat_logprobs_have_openais_shape() {
    let app = Setup::default().app();
    let body = chat(&json!({"logprobs": true, "top_logprobs": 2, "max_tokens": 1}));
    let answer = call_json(&app, CHAT, body).await.expect(200);
    let scores = &answer["choices"][0]["logprobs"];
    assert_eq!(scores["refusal"], Value::Null);
    let content = scores["content"].as_array().unwrap();
    assert_eq!(content.len(), 1);
    assert_eq!((&content[0]["token"], &content[0]["bytes"]), (&json!("a"), &json!([97])));
    assert!(content[0]["logprob"].as_f64().unwrap() > -0.01);
    let top = content[0]["top_logprobs"].as_array().unwrap();
    assert_eq!((top.len(), &top[0]["token"]), (2, &json!("a")));
    assert_eq!(top[0]["logprob"], content[0]["logprob"]);
    assert!(top[1]["logprob"].as_f64().unwrap() < -30.0);
    let body = chat(&json!({"logprobs": true, "max_tokens": 1}));
    let answer = call_json(&app, CHAT, body).await.expect(200);
    assert_eq!(answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"], json!([]));
}

#[tokio::test]
async fn the_same_chat_again_comes_from_the_cache() {
    let app = Setup::default().app();
    let long = "0123456789".repeat(10);
    let messages = json!([{"role": "system", "content": long}, {"role": "user", "content": "x"}]);
    let body = chat(&json!({"messages": messages}));
    let cached = async |body: &Value| {
        let answer = call_json(&app, CHAT, body.clone()).await.expect(200);
        let usage = &answer["usage"];
        let [prompt, cached] =
            [&usage["prompt_tokens"], &usage["prompt_tokens_details"]["cached_tokens"]];
        (prompt.as_u64().unwrap(), cached.as_u64().unwrap())
    };
    let (prompt, first) = cached(&body).await;
    let (_, second) = cached(&body).await;
    assert_eq!(first, 0);
    // Whole pages, and never the last token: its logits are wanted.
    assert_eq!(second, (prompt - 1) / 32 * 32);
    let other = json!([{"role": "system", "content": long}, {"role": "user", "content": "y"}]);
    let (_, shared) = cached(&chat(&json!({"messages": other}))).await;
    assert!((64..prompt).contains(&shared), "{shared} of {prompt}");
}

#[tokio::test]
async fn joins_are_opted_in_to_and_reported_apart() {
    let app = Setup::default().app();
    let parts = json!([{"text": "first passage"}, {"text": "second passage"}]);
    let ask = async |cento: Value| {
        let messages =
            json!([{"role": "system", "content": "s"}, {"role": "user", "content": "x"}]);
        let body = chat(&json!({"messages": messages, "cento": cento}));
        call_json(&app, CHAT, body).await.expect(200)
    };
    let exact = ask(json!({"compose": parts})).await;
    assert_eq!(exact["cento"]["join"]["policy"], "recompute");
    assert_eq!(exact["cento"]["join"]["exact"], true);
    let reuse = json!({"compose": parts, "join": {"policy": "reuse"}});
    for expected_reused in [0, 27] {
        let joined = ask(reuse.clone()).await;
        let join = &joined["cento"]["join"];
        assert_eq!((&join["policy"], &join["exact"]), (&json!("reuse"), &json!(false)));
        assert_eq!(join["reused_tokens"], expected_reused);
        assert_eq!(joined["usage"]["prompt_tokens"], exact["usage"]["prompt_tokens"]);
        assert_eq!(joined["choices"][0]["message"], exact["choices"][0]["message"]);
        let cached = joined["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
        assert!(cached <= join["root_tokens"].as_u64().unwrap(), "{cached} tokens are not exact");
    }
    // Nothing to join: the template's own tokens.
    let plain = ask(json!({"join": {"policy": "reuse"}})).await;
    assert_eq!(plain["cento"]["join"]["exact"], true);
    let difference = exact["usage"]["prompt_tokens"].as_u64().unwrap()
        - plain["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(difference, 27, "fragments stand between the turns of the same chat");
}

#[tokio::test]
async fn a_completion_is_answered_as_openai_does() {
    let app = Setup::default().app();
    let answer = call_json(&app, COMPLETIONS, completion(&json!({}))).await.expect(200);
    assert_eq!(answer["object"], "text_completion");
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
    let choice = json!({"text": "yza", "index": 0, "logprobs": null, "finish_reason": "length"});
    assert_eq!(answer["choices"], json!([choice]));
    let usage = json!({
        "prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 0},
    });
    assert_eq!(answer["usage"], usage);
    // A text gets a BOS, ids are taken as they are, a BOS that is written is not doubled.
    for (prompt, tokens) in
        [(json!([256, 120]), 2), (json!([[256, 120]]), 2), (json!([120]), 1), (json!("<s>x"), 2)]
    {
        let body = completion(&json!({"prompt": prompt}));
        let other = call_json(&app, COMPLETIONS, body).await.expect(200);
        assert_eq!(other["choices"], answer["choices"], "{prompt}");
        assert_eq!(other["usage"]["prompt_tokens"], tokens, "{prompt}");
    }
    // Sixteen tokens are OpenAI's default here.
    let body = json!({"prompt": "", "temperature": 0});
    let answer = call_json(&app, COMPLETIONS, body).await.expect(200);
    assert_eq!(answer["choices"][0]["text"], "abcdefghijklmnop");
}

#[tokio::test]
async fn several_prompts_get_a_choice_each() {
    let app = Setup::default().app();
    let body = completion(&json!({"prompt": ["a", [256, 110], "x"], "echo": true}));
    let answer = call_json(&app, COMPLETIONS, body.clone()).await.expect(200);
    let texts: Vec<&Value> =
        answer["choices"].as_array().unwrap().iter().map(|choice| &choice["text"]).collect();
    assert_eq!(texts, ["abcd", "<s>nopq", "xyza"]);
    assert_eq!(answer["usage"]["total_tokens"], 6 + 9);

    let options = json!({"stream_options": {"include_usage": true}});
    let mut frames = stream(&app, COMPLETIONS, merged(body, &options)).await;
    let last = frames.pop().unwrap();
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &answer["usage"]));
    let mut told = vec![String::new(); 3];
    let mut ends = 0;
    for frame in &frames {
        let choice = &frame["choices"][0];
        let index = choice["index"].as_u64().unwrap() as usize;
        told[index] += choice["text"].as_str().unwrap();
        ends += usize::from(choice["finish_reason"] == "length");
        assert!(frame["usage"].is_null());
    }
    assert_eq!((told, ends), (vec!["abcd".into(), "<s>nopq".into(), "xyza".to_owned()], 3));
}

#[tokio::test]
async fn an_echo_scores_the_prompt_as_the_native_api_does() {
    let app = Setup::default().app();
    let prompt = json!([256, 97, 98, 122, 97]);
    let body = json!({
        "prompt": prompt, "max_tokens": 0, "echo": true, "logprobs": 2, "temperature": 0,
    });
    let scored = call_json(&app, COMPLETIONS, body.clone()).await.expect(200);
    let choice = &scored["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("<s>abza"), &json!("length")));
    let lists = &choice["logprobs"];
    assert_eq!(lists["tokens"], json!(["<s>", "a", "b", "z", "a"]));
    assert_eq!(lists["text_offset"], json!([0, 3, 4, 5, 6]));
    assert_eq!(
        (&lists["token_logprobs"][0], &lists["top_logprobs"][0]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(lists["top_logprobs"][3].as_object().unwrap().len(), 3, "two, and the token itself");
    assert_eq!(lists["top_logprobs"][3]["z"], lists["token_logprobs"][3]);

    let native = json!({
        "root": {"tokens": [256]}, "tail": [{"tokens": [97, 98, 122, 97]}],
        "max_tokens": 0, "echo": true, "logprobs": 2, "join": {"policy": "recompute"},
    });
    let native = call_json(&app, "POST /v1/generate", native).await.expect(200);
    let native: Vec<&Value> =
        native["tail_logprobs"].as_array().unwrap().iter().map(|score| &score["logprob"]).collect();
    let ours: Vec<&Value> = lists["token_logprobs"].as_array().unwrap().iter().skip(2).collect();
    assert_eq!(ours, native);

    // A BOS that was put before a text is scored after, and has no place in the text.
    let text = merged(body.clone(), &json!({"prompt": "abza"}));
    let text = call_json(&app, COMPLETIONS, text).await.expect(200);
    let text = &text["choices"][0];
    assert_eq!(text["text"], "abza");
    assert_eq!(text["logprobs"]["token_logprobs"], lists["token_logprobs"]);
    assert_eq!(text["logprobs"]["text_offset"], json!([0, 0, 1, 2, 3]));

    // The answer's scores go on behind the prompt's, streamed or not.
    let more = merged(body, &json!({"max_tokens": 2}));
    let whole = call_json(&app, COMPLETIONS, more.clone()).await.expect(200);
    let lists = &whole["choices"][0]["logprobs"];
    assert_eq!(lists["tokens"], json!(["<s>", "a", "b", "z", "a", "b", "c"]));
    let mut streamed = json!({
        "tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": [],
    });
    for frame in stream(&app, COMPLETIONS, more).await {
        for (name, list) in frame["choices"][0]["logprobs"].as_object().unwrap() {
            streamed[name].as_array_mut().unwrap().extend(list.as_array().unwrap().clone());
        }
    }
    assert_eq!(&streamed, lists);
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_its_generation() {
    let app = Setup::slow().app();
    for line in [CHAT, COMPLETIONS] {
        for streamed in [false, true] {
            let more = json!({"max_tokens": 100_000, "stream": streamed});
            let body = if line == CHAT { chat(&more) } else { completion(&more) };
            let before = metric(&app, "cento_generations_ended_total").await;
            let reading = call_json(&app, line, body);
            let cut = tokio::time::timeout(Duration::from_millis(100), reading).await;
            assert!(cut.is_err(), "{line} ended by itself");
            wait_for_metric(&app, "cento_generations_ended_total", |n| n == before + 1.0).await;
            wait_for_metric(&app, "cento_pages_sequences", |n| n == 0.0).await;
        }
    }
}

#[tokio::test]
async fn an_answer_cut_off_by_the_servers_end_is_an_error() {
    for streamed in [false, true] {
        let state = Setup::slow().state();
        let app = cento::app(std::sync::Arc::clone(&state));
        let body = chat(&json!({"max_tokens": 100_000, "stream": streamed}));
        let reading = tokio::spawn({
            let app = app.clone();
            async move { call_json(&app, CHAT, body).await }
        });
        wait_for_metric(&app, "cento_tokens_generated_total", |n| n > 3.0).await;
        tokio::task::spawn_blocking(move || state.engine.shutdown(Duration::ZERO)).await.unwrap();
        let answer = reading.await.unwrap();
        if !streamed {
            assert_eq!(answer.expect(503)["error"]["type"], "server_error");
            continue;
        }
        assert_eq!(answer.status, 200);
        let last = events(&answer.text).pop().unwrap();
        assert_eq!(last.json()["error"]["type"], "server_error", "{}", last.data);
    }
}

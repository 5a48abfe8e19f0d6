//! Requests that are refused: status, error object, the field, the limit and the value.

use crate::harness::{Setup, call, send};
use axum::{body::Body, http::Request};
use cento::{ApiKeys, Limits};
use serde_json::{Value, json};

/// A refused request.
struct Case {
    line: &'static str,
    body: String,
    status: u16,
    param: Option<&'static str>,
    /// What the message holds: the limit, the value given.
    says: &'static [&'static str],
}

#[expect(clippy::needless_pass_by_value, reason = "rows of a table read better without borrows")]
fn refused(
    line: &'static str,
    body: impl ToString,
    status: u16,
    param: impl Into<Option<&'static str>>,
    says: &'static [&'static str],
) -> Case {
    Case { line, body: body.to_string(), status, param: param.into(), says }
}

async fn check(setup: Setup, cases: Vec<Case>) {
    let app = setup.app();
    for Case { line, body, status, param, says } in cases {
        let about = format!("{line} {}", body.get(..200).unwrap_or(&body));
        let answer = call(&app, line, body).await;
        assert_eq!(answer.status.as_u16(), status, "{about}: {}", answer.text);
        let error = &answer.json()["error"];
        let kind = if status >= 500 { "server_error" } else { "invalid_request_error" };
        assert_eq!(error["type"], kind, "{about}");
        assert_eq!(error["param"], param.map_or(Value::Null, Value::from), "{about}: {error}");
        let message = error["message"].as_str().unwrap();
        for expected in says {
            assert!(message.contains(expected), "{about}: {message:?} lacks {expected:?}");
        }
        assert!(answer.headers.contains_key("x-request-id"), "{about}");
    }
}

const GENERATE: &str = "POST /v1/generate";
const FRAGMENTS: &str = "POST /v1/fragments";
const UNKNOWN: &str = "frg_00000000000000000000000000000000";

/// A good request with one field changed or added.
fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"tail": [{"text": "x"}]});
    body[field] = value;
    body
}

#[tokio::test]
async fn wrong_json_is_refused() {
    check(
        Setup::default(),
        vec![
            refused(GENERATE, "", 400, None, &["not valid JSON", "EOF"]),
            refused(GENERATE, "{\"tail\": [", 400, None, &["line 1 column 10"]),
            refused(
                GENERATE,
                "{\"tail\": [], \"temperature\": NaN}",
                400,
                None,
                &["line 1 column 29"],
            ),
            refused(GENERATE, "{\"tail\": [], \"top_p\": 1e999}", 400, None, &["out of range"]),
            refused(GENERATE, "[]", 400, None, &["wrong type"]),
            refused(GENERATE, "{}", 400, "tail", &["missing field `tail`"]),
            refused(GENERATE, with("max_token", json!(5)), 400, "max_token", &["`max_token`"]),
            refused(GENERATE, with("temperature", json!("NaN")), 400, "temperature", &["NaN"]),
            refused(GENERATE, with("max_tokens", json!(2.5)), 400, "max_tokens", &["2.5"]),
            refused(GENERATE, json!({"tail": "x"}), 400, "tail", &["string \"x\""]),
            refused(
                GENERATE,
                with("priority", json!("urgent")),
                400,
                "priority",
                &["urgent", "high"],
            ),
            refused(FRAGMENTS, json!({"text": "x", "priority": 1}), 400, "priority", &["priority"]),
            refused(FRAGMENTS, json!({"txt": "x"}), 400, "txt", &["`txt`", "`text`"]),
            refused("POST /v1/tokenize", json!({"text": 1}), 400, "text", &["integer `1`"]),
            refused("POST /v1/tokenize", json!({}), 400, "text", &["missing"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn numbers_out_of_range_are_refused() {
    let case = |field: &'static str, value: Value, says| {
        refused(GENERATE, with(field, value), 400, field, says)
    };
    check(
        Setup::default(),
        vec![
            case("temperature", json!(-0.1), &["-0.1", "from 0 to 2"]),
            case("temperature", json!(2.5), &["2.5", "from 0 to 2"]),
            case("top_p", json!(0), &["0", "over 0 and at most 1"]),
            case("top_p", json!(1.01), &["1.01"]),
            case("top_k", json!(-1), &["-1", "from 0"]),
            case("min_p", json!(1.5), &["1.5", "from 0 to 1"]),
            case("repetition_penalty", json!(0), &["is 0"]),
            case("presence_penalty", json!(-2.1), &["-2.1", "from -2 to 2"]),
            case("frequency_penalty", json!(3), &["is 3", "from -2 to 2"]),
            case("max_tokens", json!(-1), &["-1", "from 0 to 1048576"]),
            case("max_tokens", json!(1_048_577), &["1048577", "from 0 to 1048576"]),
            case("logprobs", json!(201), &["201", "from 0 to 200"]),
            case("logprobs", json!(-1), &["-1", "from 0 to 200"]),
            refused(
                GENERATE,
                json!({"tail": [{"text": "x"}], "max_tokens": 1, "forced": [97, 98]}),
                400,
                "forced",
                &["2 tokens", "at most max_tokens"],
            ),
            refused(GENERATE, with("forced", json!([1_000_000])), 400, "forced[0]", &["1000000"]),
            case("seed", json!(-1), &["-1"]),
            case("echo", json!(true), &["logprobs"]),
            refused(GENERATE, with("stop", json!(["a", ""])), 400, "stop[1]", &["empty"]),
            case("stop", json!(vec!["x"; 17]), &["17", "16"]),
            refused(
                GENERATE,
                with("stop", json!("x".repeat(257))),
                400,
                "stop[0]",
                &["257", "256"],
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn parts_that_cannot_be_composed_are_refused() {
    let compose = |part: Value| json!({"compose": [{"text": "a"}, part], "tail": [{"text": "x"}]});
    let tail = |part: Value| json!({"tail": [part]});

    check(
        Setup::default(),
        vec![
            refused(GENERATE, json!({"tail": []}), 400, "tail", &["tail is empty", "at least one"]),
            refused(GENERATE, tail(json!({"text": ""})), 400, "tail[0]", &["empty"]),
            refused(GENERATE, tail(json!({"tokens": []})), 400, "tail[0]", &["empty"]),
            refused(GENERATE, tail(json!({})), 400, "tail[0]", &["exactly one"]),
            refused(GENERATE, tail(json!({"text": "a", "tokens": [1]})), 400, "tail[0]", &["one"]),
            refused(
                GENERATE,
                tail(json!({"tokens": [1, 259]})),
                400,
                "tail[0].tokens[1]",
                &["259", "vocabulary"],
            ),
            refused(
                GENERATE,
                tail(json!({"fragment": UNKNOWN})),
                400,
                "tail[0].fragment",
                &["here"],
            ),
            refused(
                GENERATE,
                tail(json!({"tokens": [1], "role": "user"})),
                400,
                "tail[0].role",
                &["`role`"],
            ),
            refused(GENERATE, compose(json!({"text": ""})), 400, "compose[1]", &["empty"]),
            refused(GENERATE, compose(json!({"side": "sc_1"})), 404, "compose[1].side", &["sc_1"]),
            refused(
                GENERATE,
                compose(json!({"fragment": "frg_1"})),
                404,
                "compose[1].fragment",
                &["frg_1"],
            ),
            refused(
                GENERATE,
                compose(json!({"fragment": UNKNOWN})),
                404,
                "compose[1].fragment",
                &[UNKNOWN],
            ),
            refused(
                GENERATE,
                compose(json!({"fragment": UNKNOWN, "text": "a"})),
                400,
                "compose[1].text",
                &["`text`"],
            ),
            refused(
                GENERATE,
                compose(json!({"text": "a", "name": "n".repeat(257)})),
                400,
                "compose[1].name",
                &["257", "256"],
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn roots_and_fragments_that_cannot_be_put_are_refused() {
    check(
        Setup::default(),
        vec![
            refused(GENERATE, with("root", json!(UNKNOWN)), 404, "root", &[UNKNOWN]),
            refused(
                FRAGMENTS,
                json!({"text": "a", "root": {"tokens": []}}),
                400,
                "root",
                &["empty"],
            ),
            refused(
                GENERATE,
                json!({
                    "root": {"tokens": []}, "compose": [{"text": "a"}], "tail": [{"text": "b"}],
                    "join": {"policy": "recompute"},
                }),
                400,
                "root",
                &["empty"],
            ),
            refused(GENERATE, with("root", json!({"txt": "a"})), 400, "root.txt", &["`txt`"]),
            refused(FRAGMENTS, json!({}), 400, "text", &["exactly one"]),
            refused(FRAGMENTS, json!({"text": ""}), 400, "text", &["empty"]),
            refused(FRAGMENTS, json!({"tokens": [9999]}), 400, "tokens[0]", &["9999", "259"]),
            refused(FRAGMENTS, json!({"messages": []}), 400, "messages", &["empty"]),
            refused(FRAGMENTS, json!({"text": "a", "messages": []}), 400, "text", &["one"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn join_policies_that_are_not_there_are_refused() {
    let join = |value: Value| with("join", value);
    check(
        Setup::default(),
        vec![
            refused(
                GENERATE,
                join(json!({"policy": "auto", "quality": 1.5})),
                400,
                "join.quality",
                &["quality is 1.5", "at most 1"],
            ),
            refused(
                GENERATE,
                join(json!({"policy": "blend"})),
                400,
                "join.policy",
                &["blend", "recompute, reuse, parallel:TEMPERATURE,SCALE"],
            ),
            refused(
                GENERATE,
                join(json!({"policy": "reuse", "tokens": 8})),
                400,
                "join.tokens",
                &["reuse"],
            ),
            refused(
                GENERATE,
                join(json!({"policy": "boundary", "tokens": 0.5})),
                400,
                "join.tokens",
                &["0.5", "whole number from 1"],
            ),
            refused(
                GENERATE,
                join(json!({"policy": "boundary", "tokens": 8, "selected": [2]})),
                400,
                "selected",
                &["chooses no rows"],
            ),
            refused(
                GENERATE,
                json!({
                    "compose": [{"text": "ab"}],
                    "tail": [{"text": "x"}],
                    "join": {"policy": "query", "ratio": 0.1, "selected": [0]},
                }),
                400,
                "selected",
                &["selected is 0", "fragment rows"],
            ),
            refused(GENERATE, join(json!({"policy": "query"})), 400, "join.ratio", &["at most 1"]),
            refused(
                GENERATE,
                join(json!({"policy": "parallel", "scale": 1})),
                400,
                "join.temperature",
                &["needs `temperature`"],
            ),
            refused(GENERATE, join(json!({"policy": "reuse", "k": 8})), 400, "join.k", &["`k`"]),
            refused(GENERATE, join(json!({})), 400, "join.policy", &["missing"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_is_too_long_is_refused() {
    let long = "x".repeat(70_000);
    let limits = Limits { body_bytes_max: 4 << 20, ..Limits::DEFAULT };
    check(
        Setup::default(),
        vec![
            refused(GENERATE, json!({"tail": [{"text": long}]}), 413, None, &["70022", "65536"]),
            refused("POST /v1/tokenize", json!({"text": long}), 413, None, &["65536"]),
        ],
    )
    .await;
    let over_context = "x".repeat(1_100_000);
    check(
        Setup { limits, ..Setup::default() },
        vec![
            refused(
                GENERATE,
                json!({"tail": [{"text": over_context}]}),
                400,
                None,
                &["1048576", "11000"],
            ),
            refused(
                GENERATE,
                json!({"tail": [{"text": "x"}], "compose": vec![json!({"text": "x"}); 4097]}),
                400,
                "compose",
                &["4097", "4096"],
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_are_refused() {
    check(
        Setup::default(),
        vec![
            refused("GET /nowhere", "", 404, None, &["GET /nowhere"]),
            refused("GET /v1/generate", "", 405, None, &["GET", "/v1/generate"]),
            refused("DELETE /health", "", 405, None, &["DELETE"]),
            refused("GET /v1/fragments/frg_1", "", 404, None, &["frg_1"]),
            refused(
                "DELETE /v1/fragments/frg_00000000000000000000000000000000",
                "",
                404,
                None,
                &["frg_0000"],
            ),
            refused("GET /v1/fragments/frg_1?digits=true", "", 400, "digits", &["digits"]),
            refused("GET /v1/generations/gen_1", "", 404, None, &["gen_1"]),
            refused("GET /v1/generations/gen_1/events", "", 404, None, &["gen_1"]),
            refused(
                "GET /v1/generations/gen_1/events?starting_after=x",
                "",
                400,
                "starting_after",
                &[],
            ),
            refused("POST /v1/generations/gen_1/cancel", "", 404, None, &["gen_1"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn keys_and_origins_are_asked_for() {
    let keys = ApiKeys::parse("alice:a-key\nbob:b-key").unwrap();
    let app = Setup { keys, ..Setup::default() }.app();
    let get = |path: &str, name: &str, value: &str| {
        Request::get(path)
            .header(name, value)
            .header("host", "cento:1")
            .body(Body::empty())
            .unwrap()
    };
    let cases = [
        (get("/v1/fragments", "x", "y"), 401),
        (get("/v1/fragments", "authorization", "Bearer c-key"), 401),
        (get("/v1/fragments", "authorization", "Bearer a-key"), 200),
        (get("/metrics", "x", "y"), 401),
        (get("/health", "x", "y"), 200),
        (get("/", "x", "y"), 200),
        (get("/", "origin", "http://cento:1"), 200),
        (get("/", "origin", "http://elsewhere.example"), 403),
        (get("/", "origin", "null"), 403),
    ];
    for (request, status) in cases {
        let about = format!("{request:?}");
        let answer = send(&app, request).await;
        assert_eq!(answer.status.as_u16(), status, "{about}: {}", answer.text);
    }
}

#[tokio::test]
async fn tenants_share_nothing() {
    let keys = ApiKeys::parse("alice:a-key\nbob:b-key").unwrap();
    let app = Setup { keys, ..Setup::default() }.app();
    let request = |line: &str, key: &str, body: &str| {
        let (method, path) = line.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {key}"));
        request.body(Body::from(body.to_owned())).unwrap()
    };
    let put = send(&app, request(FRAGMENTS, "a-key", "{\"text\": \"mine\"}")).await.expect(200);
    let path = format!("GET /v1/fragments/{}", put["id"].as_str().unwrap());
    send(&app, request(&path, "a-key", "")).await.expect(200);
    send(&app, request(&path, "b-key", "")).await.expect(404);
    let list = send(&app, request("GET /v1/fragments", "b-key", "")).await.expect(200);
    assert_eq!(list["data"], json!([]));

    let body = "{\"tail\": [{\"text\": \"x\"}], \"max_tokens\": 1}";
    let generation = send(&app, request(GENERATE, "a-key", body)).await.expect(200);
    let path = format!("GET /v1/generations/{}", generation["id"].as_str().unwrap());
    send(&app, request(&path, "a-key", "")).await.expect(200);
    send(&app, request(&path, "b-key", "")).await.expect(404);
}

//! What a wrong body is told.

use super::decode;
use crate::api::{compose::RootBody, generate::GenerateBody};
use axum::http::StatusCode;

/// `json` is refused with 400, naming `param` and saying `said`.
fn check(json: &str, param: Option<&str>, said: &str) {
    let error = decode::<GenerateBody>(json.as_bytes()).expect_err(json);
    let body = error.body().error;
    assert_eq!(error.status(), StatusCode::BAD_REQUEST, "{json}");
    assert_eq!(body.param.as_deref(), param, "{json}: {}", body.message);
    assert!(body.message.contains(said), "{json}: {}", body.message);
}

#[test]
fn wrong_bodies_name_the_field() {
    check("", None, "EOF");
    check("{\"tail\":", None, "line 1 column 8");
    check("{\"tail\": []} x", None, "line 1 column 14");
    check("{\"tail\": [], \"temperature\": NaN}", None, "line 1 column");
    check("[]", None, "wrong type");
    check("{}", Some("tail"), "missing field `tail`");
    check("{\"tail\": [], \"max_token\": 1}", Some("max_token"), "unknown field `max_token`");
    check("{\"tail\": [{\"txt\": 1}]}", Some("tail[0].txt"), "unknown field `txt`");
    check("{\"tail\": [{\"text\": 1}]}", Some("tail[0].text"), "expected a string");
    check("{\"tail\": [{\"tokens\": [1, -1]}]}", Some("tail[0].tokens[1]"), "integer `-1`");
    check("{\"tail\": [], \"root\": {\"texts\": 1}}", Some("root.texts"), "unknown field `texts`");
    check("{\"tail\": [], \"root\": 5}", Some("root"), "a fragment id, or an object");
    check("{\"tail\": [], \"max_tokens\": 1.5}", Some("max_tokens"), "1.5");
    check("{\"tail\": [], \"seed\": -1}", Some("seed"), "-1");
    check("{\"tail\": [], \"stop\": [1]}", Some("stop"), "a text or a list of texts");
    check(
        "{\"tail\": [], \"join\": {\"ratio\": 1}}",
        Some("join.policy"),
        "missing field `policy`",
    );
    check("{\"tail\": [], \"tail\": []}", Some("tail"), "duplicate field `tail`");
}

#[test]
fn a_root_is_an_id_or_a_part() {
    assert!(matches!(decode(b"\"frg_00\"").unwrap(), RootBody::Fragment(id) if id == "frg_00"));
    let part = decode(b"{\"role\": \"system\", \"text\": \"Be brief.\"}").unwrap();
    assert!(matches!(part, RootBody::Part(part) if part.text.as_deref() == Some("Be brief.")));
}

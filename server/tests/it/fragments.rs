//! Fragments over HTTP: put, list, look at, forget.

use crate::harness::{Setup, call, call_json};
use serde_json::{Value, json};

#[tokio::test]
async fn a_fragment_is_encoded_once() {
    let app = Setup::default().app();
    let body = json!({"text": "some passage", "name": "passage"});
    let first = call_json(&app, "POST /v1/fragments", body.clone()).await.expect(200);
    assert_eq!(first["object"], "fragment");
    assert_eq!(first["tokens"], 12);
    assert_eq!(first["cached"], false);
    assert_eq!(first["pinned"], false);
    assert_eq!(first["name"], "passage");
    let id = first["id"].as_str().unwrap();
    assert!(id.starts_with("frg_") && id.len() == 36, "{id}");

    let second = call_json(&app, "POST /v1/fragments", json!({"text": "some passage"})).await;
    let second = second.expect(200);
    assert_eq!((&second["id"], &second["cached"]), (&first["id"], &json!(true)));
    assert_eq!(second["name"], "passage", "a put without a name leaves the name");

    let list = call(&app, "GET /v1/fragments", "").await.expect(200);
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"].as_array().unwrap().len(), 1);

    let one = call(&app, &format!("GET /v1/fragments/{id}?digest=true"), "").await.expect(200);
    assert_eq!(one["text"], "some passage");
    assert_eq!(one["digest"].as_str().map(str::len), Some(64), "{one}");
    assert_eq!(call(&app, &format!("GET /v1/fragments/{id}"), "").await.json().get("digest"), None);

    let deleted = call(&app, &format!("DELETE /v1/fragments/{id}"), "").await.expect(200);
    assert_eq!(deleted, json!({"id": id, "object": "fragment", "deleted": true}));
    call(&app, &format!("GET /v1/fragments/{id}"), "").await.expect(404);
    call(&app, &format!("DELETE /v1/fragments/{id}"), "").await.expect(404);
}

#[tokio::test]
async fn roles_messages_and_roots_make_other_fragments() {
    let app = Setup::default().app();
    let bodies = [
        json!({"text": "x"}),
        json!({"text": "x", "role": "user"}),
        json!({"messages": [{"role": "user", "content": "x"}, {"role": "tool", "content": "y"}]}),
        json!({"tokens": [120, 121]}),
        json!({"text": "x", "root": {"role": "system", "text": "Be brief."}}),
        json!({"text": "x", "root": {"text": "other"}, "pin": true}),
        json!({"text": "x", "root": {"tokens": [256, 1]}}),
    ];
    let mut ids = Vec::new();
    for body in bodies {
        let put = call_json(&app, "POST /v1/fragments", body.clone()).await.expect(200);
        assert_eq!(put["pinned"], body["pin"] == true, "{body}");
        ids.push(put["id"].as_str().unwrap().to_owned());
    }
    // The root of a fragment that is put under another one is both, one after the other.
    let under = json!({"text": "x", "root": ids[3]});
    let put = call_json(&app, "POST /v1/fragments", under).await.expect(200);
    let root = call(&app, &format!("GET /v1/fragments/{}", ids[3]), "").await.expect(200);
    let both = root["root_tokens"].as_u64().unwrap() + root["tokens"].as_u64().unwrap();
    assert_eq!(put["root_tokens"], both);
    ids.push(put["id"].as_str().unwrap().to_owned());

    let mut unique = ids.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
}

#[tokio::test]
async fn text_goes_to_tokens_and_back() {
    let app = Setup::default().app();
    let text = "é <|im_end|>";
    for (special, count) in [(true, 4), (false, 13)] {
        let body = json!({"text": text, "special": special});
        let tokens = call_json(&app, "POST /v1/tokenize", body).await.expect(200);
        assert_eq!(tokens["count"], count, "{tokens}");
        let body = json!({"tokens": tokens["tokens"], "special": true});
        let back = call_json(&app, "POST /v1/detokenize", body).await.expect(200);
        assert_eq!(back, json!({"text": text}));
    }
    let body = json!({"tokens": [104, 105, 258], "special": false});
    let hidden = call_json(&app, "POST /v1/detokenize", body).await.expect(200);
    assert_eq!(hidden, json!({"text": "hi"}));
    call_json(&app, "POST /v1/detokenize", json!({"tokens": [259]})).await.expect(400);
}

#[tokio::test]
async fn a_finished_turn_becomes_a_fragment() {
    let app = Setup::default().app();
    let root = json!({"tokens": [256, 10]});
    let asked = json!({
        "root": root, "compose": [{"text": "a passage"}, {"text": "another"}],
        "tail": [{"role": "user", "text": "x"}], "join": {"policy": "boundary", "tokens": 2},
        "seal": true, "max_tokens": 3, "temperature": 0,
    });
    let turn = call_json(&app, "POST /v1/generate", asked.clone()).await.expect(200);
    let id = turn["sealed"].as_str().expect("an id").to_owned();
    let path = format!("GET /v1/fragments/{id}");
    let fragment = call(&app, &path, "").await.expect(200);
    let answer = turn["text"].as_str().unwrap();
    let text = fragment["text"].as_str().unwrap();
    assert!(text.contains("user\nx<|im_end|>") && text.ends_with(&format!("{answer}<|im_end|>\n")));
    let saw: Vec<_> =
        turn["fragments"].as_array().unwrap().iter().map(|used| &used["id"]).collect();
    let contextual = json!({
        "saw": saw, "policy": "boundary", "tokens": 2, "recomputed_tokens": 2, "start": 18,
    });
    assert_eq!(fragment["contextual"], contextual);

    // It is placed like any other, in any order, and nothing of it is computed.
    let tokens = fragment["tokens"].as_u64().unwrap();
    let next = |compose: Value| {
        json!({"root": root, "compose": compose, "tail": [{"role": "user", "text": "y"}],
            "max_tokens": 1})
    };
    let both = json!([{"fragment": id}, {"text": "another"}]);
    let used = call_json(&app, "POST /v1/generate", next(both)).await.expect(200);
    assert_eq!(used["join"]["reused_tokens"], tokens + 7);
    assert_eq!(
        (&used["join"]["encoded_tokens"], &used["join"]["exact"]),
        (&json!(0), &json!(false))
    );
    assert_eq!(used["fragments"][0]["id"], id);

    // The same again is the same fragment.
    let again = call_json(&app, "POST /v1/generate", asked.clone()).await.expect(200);
    assert_eq!(again["sealed"], id);

    let mut elsewhere = next(json!([{"fragment": id}]));
    elsewhere["root"] = json!({"tokens": [256, 11]});
    let refused = call_json(&app, "POST /v1/generate", elsewhere).await.expect(400);
    assert_eq!(refused["error"]["code"], "other_root", "{refused}");
    let mut plain = asked;
    plain["join"] = json!({"policy": "recompute"});
    let refused = call_json(&app, "POST /v1/generate", plain).await.expect(400);
    assert!(refused["error"]["message"].as_str().unwrap().contains("seal"), "{refused}");

    call(&app, &format!("DELETE /v1/fragments/{id}"), "").await.expect(200);
    call_json(&app, "POST /v1/generate", next(json!([{"fragment": id}]))).await.expect(404);
}

#[tokio::test]
async fn a_turn_that_saw_no_fragment_is_clean() {
    let app = Setup::default().app();
    let body = json!({"tail": [{"text": "x"}], "seal": true, "max_tokens": 3, "temperature": 0});
    let turn = call_json(&app, "POST /v1/generate", body).await.expect(200);
    let put = json!({"text": format!("x{}", turn["text"].as_str().unwrap())});
    let put = call_json(&app, "POST /v1/fragments", put).await.expect(200);
    assert_eq!((&put["id"], &put["cached"]), (&turn["sealed"], &json!(true)));
    assert_eq!(put.get("contextual"), None);
}

//! Inboxes over HTTP: what waits, in one piece that is written anew.

use crate::harness::{Setup, call, call_json};
use axum::Router;
use serde_json::{Value, json};

async fn create(app: &Router, body: Value) -> Value {
    call_json(app, "POST /v1/side-contexts", body).await.expect(200)
}

fn text(context: &Value) -> &str {
    assert_eq!(context["entries"].as_array().unwrap().len(), 1, "one piece: {context}");
    context["entries"][0]["text"].as_str().unwrap()
}

#[tokio::test]
async fn an_inbox_shows_what_waits_and_shrinks_when_it_is_read() {
    let app = Setup::default().app();
    let made = create(&app, json!({"kind": "inbox", "max_entries": 2})).await;
    assert_eq!(text(&made), "Inbox: nothing waits.\n");
    let path = format!("/v1/side-contexts/{}", made["id"].as_str().unwrap());
    let entries = format!("POST {path}/entries");
    for (n, body) in [
        (1, json!({"gist": "the build is red", "from": "ci", "message": "msg_1"})),
        (2, json!({"gist": "lunch?", "from": "ann"})),
        (3, json!({"gist": "no\nsecond line"})),
    ] {
        let pushed = call_json(&app, &entries, body).await.expect(200);
        assert_eq!((&pushed["number"], &pushed["version"]), (&json!(n), &json!(n + 1)));
    }
    let full = call(&app, &format!("GET {path}"), "").await.expect(200);
    assert_eq!(
        text(&full),
        "Inbox: 3 messages wait.\n(and 1 earlier)\n#2 from ann: lunch?\n#3: no second line\n"
    );
    assert_eq!(full["waiting"][0]["message"], "msg_1");
    assert_eq!(full["rolled_off"], 0);

    let patched = call_json(&app, &format!("PATCH {path}"), json!({"max_entries": 5})).await;
    assert!(text(&patched.expect(200)).contains("#1 from ci: the build is red [msg_1]\n"));
    let read = call(&app, &format!("DELETE {path}/entries/2"), "").await.expect(200);
    assert_eq!((&read["number"], &read["deleted"]), (&json!(2), &json!(true)));
    call(&app, &format!("DELETE {path}/entries/2"), "").await.expect(404);
    let less = call(&app, &format!("GET {path}"), "").await.expect(200);
    assert_eq!(less["version"], read["version"]);
    assert_eq!(less["waiting"].as_array().unwrap().len(), 2);
    for n in [1, 3] {
        call(&app, &format!("DELETE {path}/entries/{n}"), "").await.expect(200);
    }
    let none = call(&app, &format!("GET {path}"), "").await.expect(200);
    assert_eq!((text(&none), &none["waiting"]), ("Inbox: nothing waits.\n", &json!([])));
}

#[tokio::test]
async fn an_inbox_is_placed_as_it_is_then() {
    let app = Setup::default().app();
    let made = create(&app, json!({"kind": "inbox"})).await;
    let id = made["id"].as_str().unwrap();
    let place = async || {
        let compose = json!([{"side": id}, {"text": "a passage"}]);
        let body = json!({"compose": compose, "tail": [{"text": "x"}], "max_tokens": 1});
        call_json(&app, "POST /v1/generate", body).await.expect(200)
    };
    assert_eq!(place().await["fragments"][1]["tokens"], "Inbox: nothing waits.\n".len());
    let entries = format!("POST /v1/side-contexts/{id}/entries");
    call_json(&app, &entries, json!({"gist": "lunch?"})).await.expect(200);
    let placed = place().await;
    let expected = "Inbox: 1 message waits.\n#1: lunch?\n".len();
    assert_eq!(placed["fragments"][1]["tokens"], expected);
    assert_eq!(placed["join"]["encoded_tokens"], expected, "and nothing else is computed");
}

#[tokio::test]
async fn many_who_write_at_once_are_all_shown() {
    let app = Setup::default().app();
    let made = create(&app, json!({"kind": "inbox", "max_entries": 64})).await;
    let path = format!("/v1/side-contexts/{}", made["id"].as_str().unwrap());
    let writes = (0..32).map(|n| {
        let (app, line) = (app.clone(), format!("POST {path}/entries"));
        tokio::spawn(async move {
            call_json(&app, &line, json!({"gist": format!("note {n}")})).await.expect(200)
        })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap();
    }
    let all = call(&app, &format!("GET {path}"), "").await.expect(200);
    assert_eq!(text(&all).lines().count(), 33, "{all}");
}

#[tokio::test]
async fn an_entry_is_taken_from_a_feed_without_cost_for_the_others() {
    let app = Setup::default().app();
    for kind in ["feed", "log"] {
        let made = create(&app, json!({"kind": kind})).await;
        let id = made["id"].as_str().unwrap();
        for text in ["one. ", "two. ", "three. "] {
            let line = format!("POST /v1/side-contexts/{id}/entries");
            call_json(&app, &line, json!({"text": format!("{kind} {text}")})).await.expect(200);
        }
        let place = async || {
            let body = json!({"compose": [{"side": id}], "tail": [{"text": "x"}], "max_tokens": 1});
            call_json(&app, "POST /v1/generate", body).await.expect(200)
        };
        place().await;
        call(&app, &format!("DELETE /v1/side-contexts/{id}/entries/2"), "").await.expect(200);
        let placed = place().await;
        assert_eq!(placed["fragments"].as_array().unwrap().len(), 2);
        assert_eq!(placed["join"]["encoded_tokens"], 0);
        let held = call(&app, &format!("GET /v1/side-contexts/{id}"), "").await.expect(200);
        let numbers: Vec<_> = held["entries"].as_array().unwrap().iter().collect();
        assert_eq!((&numbers[0]["number"], &numbers[1]["number"]), (&json!(1), &json!(3)));
        assert_eq!(held["rolled_off"], 0, "what was taken did not roll off");
    }
}

#[tokio::test]
async fn entries_that_do_not_fit_are_refused() {
    let app = Setup::default().app();
    let mut paths = Vec::new();
    for kind in ["inbox", "feed", "clock"] {
        let made = create(&app, json!({"kind": kind})).await;
        paths.push(format!("/v1/side-contexts/{}", made["id"].as_str().unwrap()));
    }
    let [inbox, feed, clock] = paths.as_slice() else { panic!("three") };
    for (line, body, param) in [
        ("POST /v1/side-contexts", json!({"kind": "inbox", "max_tokens": 5}), "kind"),
        ("POST /v1/side-contexts", json!({"kind": "inbox", "template": "%H"}), "kind"),
        (&format!("POST {inbox}/entries"), json!({"text": "a body"}), "text"),
        (&format!("POST {inbox}/entries"), json!({"from": "ann"}), "gist"),
        (&format!("POST {inbox}/entries"), json!({"gist": "x".repeat(600)}), "gist"),
        (&format!("POST {feed}/entries"), json!({"gist": "x"}), "gist"),
        (&format!("POST {feed}/entries"), json!({}), "text"),
        (&format!("DELETE {feed}/entries/first"), json!({}), "number"),
        (&format!("DELETE {clock}/entries/1"), json!({}), "id"),
    ] {
        let refused = call_json(&app, line, body).await.expect(400);
        assert_eq!(refused["error"]["param"], param, "{refused}");
    }
    call(&app, &format!("DELETE {feed}/entries/1"), "").await.expect(404);
}

//! Sources of side contexts over HTTP: off until they are allowed, and what comes of them is an entry.

use crate::harness::{Setup, call, call_json, metric};
use axum::{Router, routing::get};
use cento::sources::{Allowed, Folders, Host, Hosts};
use serde_json::{Value, json};
use std::{fs, io::Write as _, path::Path, time::Duration};

const CREATE: &str = "POST /v1/side-contexts";

fn server(allowed: Allowed) -> Router {
    Setup { allowed, ..Setup::default() }.app()
}

async fn create(app: &Router, body: Value) -> String {
    let made = call_json(app, CREATE, body).await.expect(200);
    format!("/v1/side-contexts/{}", made["id"].as_str().unwrap())
}

/// The context once it is as wanted.
async fn until(app: &Router, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..600 {
        let now = call(app, &format!("GET {path}"), "").await.expect(200);
        if wanted(&now) {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it stays {}", call(app, &format!("GET {path}"), "").await.text);
}

fn texts(context: &Value) -> Vec<&str> {
    let entries = context["entries"].as_array().unwrap();
    entries.iter().map(|entry| entry["text"].as_str().unwrap()).collect()
}

fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn everything_is_off_until_it_is_allowed() {
    let app = server(Allowed::default());
    for (source, param, flag) in [
        (json!({"file": "/var/log/syslog"}), "source.file", "--allow-file"),
        (json!({"url": "http://example.org/feed"}), "source.url", "--allow-url example.org"),
        (json!({"url": "http://127.0.0.1/"}), "source.url", "--allow-url 127.0.0.1"),
        (json!({"command": "uptime"}), "source.command", "--allow-command 'uptime="),
    ] {
        let body = json!({"kind": "feed", "source": source});
        let refused = call_json(&app, CREATE, body).await.expect(403);
        let error = &refused["error"];
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!("not_allowed")));
        assert!(error["message"].as_str().unwrap().contains(flag), "{refused}");
    }
    for (source, param) in [
        (json!({"file": "relative"}), "source.file"),
        (json!({"url": "nonsense"}), "source.url"),
        (json!({"url": "http://a:b@example.org/"}), "source.url"),
        (json!({"url": "http://example.org/", "every_seconds": 1}), "source.every_seconds"),
        (json!({}), "source"),
        (json!({"fiel": "/x"}), "source.fiel"),
    ] {
        let body = json!({"kind": "feed", "source": source});
        let refused = call_json(&app, CREATE, body).await.expect(400);
        assert_eq!(refused["error"]["param"], param, "{refused}");
    }
    let listed = call(&app, "GET /v1/side-contexts", "").await.expect(200);
    assert_eq!(listed["data"], json!([]), "nothing is left of what was refused");
}

#[tokio::test]
async fn lines_of_a_file_become_entries_and_roll_off() {
    let folder = tempfile::tempdir().unwrap();
    let folders = Folders::new([folder.path().to_owned()]).unwrap();
    let app = server(Allowed { folders, ..Allowed::default() });
    let file = folder.path().join("log");
    append(&file, "before\n");
    let source = json!({"file": file, "from": "start"});
    let body = json!({"kind": "feed", "max_entries": 2, "source": source});
    let path = create(&app, body).await;
    until(&app, &path, |now| texts(now) == ["before\n"]).await;
    append(&file, "one\ntwo\nthree\nhalf");
    let held = until(&app, &path, |now| now["rolled_off"] == 2).await;
    assert_eq!(texts(&held), ["two\n", "three\n"]);
    let source = &held["source"];
    assert_eq!((&source["from"], &source["failures"]), (&json!("start"), &json!(0)));
    assert!(source["last_success"].as_u64().is_some(), "{source}");
    // It takes pushes, too.
    call_json(&app, &format!("POST {path}/entries"), json!({"text": "mine"})).await.expect(200);
    // Deleted, it reads no more; what it holds then is not asked for again.
    call(&app, &format!("DELETE {path}"), "").await.expect(200);
    append(&file, "more\n");
    tokio::time::sleep(Duration::from_millis(700)).await;
    call(&app, &format!("GET {path}"), "").await.expect(404);
}

#[tokio::test]
async fn a_url_that_fails_is_told_by_an_event_and_a_metric() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let site = Router::new().route("/text", get(async || "from the web"));
    tokio::spawn(async move { axum::serve(listener, site).await });
    let hosts = Hosts::new([Host::Address("127.0.0.1".parse().unwrap())]);
    let app = server(Allowed { hosts, ..Allowed::default() });

    let url = format!("http://127.0.0.1:{port}/text");
    let path = create(&app, json!({"kind": "feed", "source": {"url": url}})).await;
    let held = until(&app, &path, |now| texts(now) == ["from the web\n"]).await;
    assert_eq!(
        (&held["source"]["url"], &held["source"]["every_seconds"]),
        (&json!(url), &json!(300.0))
    );

    let url = format!("http://127.0.0.1:{port}/nothing");
    let path = create(&app, json!({"kind": "feed", "source": {"url": url}})).await;
    let failed = until(&app, &path, |now| now["source"]["failures"] == 1).await;
    assert_eq!(failed["source"]["last_error"], "the answer was 404 Not Found");
    assert_eq!(failed["source"]["last_success"], Value::Null);
    assert_eq!(metric(&app, "cento_side_source_failures_total").await, 1.0);
    let reading = tokio::spawn({
        let (app, line) = (app.clone(), format!("GET {path}/events"));
        async move { call(&app, &line, "").await.text }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    call(&app, &format!("DELETE {path}"), "").await.expect(200);
    let told = reading.await.unwrap();
    assert!(told.contains("event: side_context.source_failed"), "{told}");
    assert!(told.contains("the answer was 404 Not Found"), "{told}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_commands_output_is_an_entry_whenever_it_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("said");
    fs::write(&file, "one\n").unwrap();
    let line = format!("cat {}", file.display()).parse().unwrap();
    let commands = [("said".to_owned(), line)].into();
    let app = server(Allowed { commands, ..Allowed::default() });
    let source = json!({"command": "said", "every_seconds": 1});
    let path = create(&app, json!({"kind": "feed", "source": source})).await;
    until(&app, &path, |now| texts(now) == ["one\n"]).await;
    fs::write(&file, "two\n").unwrap();
    until(&app, &path, |now| texts(now) == ["one\n", "two\n"]).await;
    let body = json!({"kind": "feed", "source": {"command": "other"}});
    let refused = call_json(&app, CREATE, body).await.expect(403);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("(those allowed: said)"), "{message}");
}

#[tokio::test]
async fn a_tenant_has_so_many_sources() {
    let folder = tempfile::tempdir().unwrap();
    let folders = Folders::new([folder.path().to_owned()]).unwrap();
    let app = server(Allowed { folders, ..Allowed::default() });
    let file = folder.path().join("log");
    let body = json!({"kind": "feed", "source": {"file": file}});
    let mut paths = Vec::new();
    for _ in 0..cento::limits::SOURCES_MAX {
        paths.push(create(&app, body.clone()).await);
    }
    let refused = call_json(&app, CREATE, body.clone()).await.expect(400);
    assert_eq!(refused["error"]["code"], "too_many");
    call(&app, &format!("DELETE {}", paths[0]), "").await.expect(200);
    create(&app, body).await;
}

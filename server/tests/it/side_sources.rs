//! Sources of side contexts over HTTP: off until they are allowed, and what comes of them is an entry.

use crate::harness::{Answer, Setup, call, call_json, events, metric};
use axum::{Router, routing::get};
use cento::sources::{Allowed, Folders, Host, Hosts};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

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
    let free = create(&app, json!({"kind": "feed"})).await;
    let source = json!({"source": {"file": file}});
    patch(&app, &paths[1], source.clone()).await.expect(200);
    patch(&app, &free, source.clone()).await.expect(200);
    let unfed = create(&app, json!({"kind": "feed"})).await;
    let refused = patch(&app, &unfed, source.clone()).await.expect(400);
    assert_eq!(
        (&refused["error"]["param"], &refused["error"]["code"]),
        (&json!("source"), &json!("too_many"))
    );
    patch(&app, &free, json!({"source": null})).await.expect(200);
    patch(&app, &unfed, source).await.expect(200);
}

async fn patch(app: &Router, path: &str, body: Value) -> Answer {
    call_json(app, &format!("PATCH {path}"), body).await
}

/// Two files below an allowed folder, and a feed that begins with the first.
async fn fed_by_a_file(folder: &Path) -> (Router, String, [PathBuf; 2]) {
    let folders = Folders::new([folder.to_owned()]).unwrap();
    let app = server(Allowed { folders, ..Allowed::default() });
    let files = ["first", "second"].map(|name| folder.join(name));
    append(&files[0], "one\n");
    let source = json!({"file": files[0], "from": "start"});
    let path = create(&app, json!({"kind": "feed", "max_entries": 100, "source": source})).await;
    until(&app, &path, |now| texts(now) == ["one\n"]).await;
    (app, path, files)
}

#[tokio::test]
async fn a_source_is_replaced_and_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let (app, path, [first, second]) = fed_by_a_file(folder.path()).await;
    append(&second, "two\n");
    let source = json!({"file": second, "from": "start"});
    let now = patch(&app, &path, json!({"source": source})).await.expect(200);
    // The new one may have been read already.
    assert_eq!((texts(&now)[0], &now["source"]["file"]), ("one\n", &json!(second)));
    append(&first, "lost\n");
    until(&app, &path, |now| texts(now) == ["one\n", "two\n"]).await;
    // What is not given stays.
    let now = patch(&app, &path, json!({"name": "other", "max_entries": 3})).await.expect(200);
    assert_eq!(now["source"]["file"], json!(second));
    append(&second, "three\n");
    until(&app, &path, |now| texts(now) == ["one\n", "two\n", "three\n"]).await;

    let reading = tokio::spawn({
        let (app, line) = (app.clone(), format!("GET {path}/events"));
        async move { call(&app, &line, "").await.text }
    });
    let now = patch(&app, &path, json!({"source": null})).await.expect(200);
    assert_eq!((now["source"].clone(), texts(&now).len()), (Value::Null, 3), "{now}");
    patch(&app, &path, json!({"source": null})).await.expect(200);
    append(&second, "four\n");
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let now = call(&app, &format!("GET {path}"), "").await.expect(200);
    assert_eq!(texts(&now), ["one\n", "two\n", "three\n"], "nothing comes any more");
    call_json(&app, &format!("POST {path}/entries"), json!({"text": "mine"})).await.expect(200);
    call(&app, &format!("DELETE {path}"), "").await.expect(200);

    let told = events(&reading.await.unwrap());
    let changes = told.iter().filter(|event| event.kind == "side_context.source_changed");
    let sources: Vec<Value> = changes.map(|event| event.json()["source"]["file"].clone()).collect();
    assert_eq!(sources, [json!(second), Value::Null], "no event where nothing changed: {told:?}");
}

#[tokio::test]
async fn a_source_that_is_refused_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let (app, path, [first, second]) = fed_by_a_file(folder.path()).await;
    for (body, status, param) in [
        (json!({"source": {"file": "/etc/hostname"}}), 403, "source.file"),
        (json!({"source": {"command": "load"}}), 403, "source.command"),
        (json!({"source": {"file": second, "every_seconds": 1}}), 400, "source.every_seconds"),
        (json!({"source": {"fiel": second}}), 400, "source.fiel"),
        (json!({"source": {}}), 400, "source"),
        // Nothing of it where something is refused.
        (json!({"source": null, "max_entries": 0}), 400, "max_entries"),
        (json!({"source": {"file": "/etc/hostname"}, "name": "new"}), 403, "source.file"),
    ] {
        let refused = patch(&app, &path, body).await.expect(status);
        assert_eq!(refused["error"]["param"], param, "{refused}");
    }
    append(&first, "two\n");
    let now = until(&app, &path, |now| texts(now) == ["one\n", "two\n"]).await;
    assert_eq!((&now["name"], &now["source"]["file"]), (&Value::Null, &json!(first)));

    let clock = create(&app, json!({"kind": "clock"})).await;
    let refused = patch(&app, &clock, json!({"source": {"file": first}})).await.expect(400);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("clock takes no source"), "{message}");
    let unknown = "/v1/side-contexts/sc_none";
    patch(&app, unknown, json!({"source": null})).await.expect(404);
}

#[tokio::test]
async fn nothing_of_the_old_source_comes_after_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (app, path, [first, second]) = fed_by_a_file(folder.path()).await;
    for source in [json!({"file": second}), Value::Null] {
        // It is in the middle of taking many lines.
        let before = call(&app, &format!("GET {path}"), "").await.expect(200);
        append(&first, &"x\n".repeat(120_000));
        let is_taking = |now: &Value| now["version"].as_u64() > before["version"].as_u64();
        until(&app, &path, is_taking).await;
        let now = patch(&app, &path, json!({"source": source})).await.expect(200);
        let rolled_off = |context: &Value| context["rolled_off"].as_u64().unwrap();
        let taken = rolled_off(&now) - rolled_off(&before);
        assert!(taken < 120_000, "all was taken already: {taken}");
        tokio::time::sleep(Duration::from_millis(300)).await;
        let later = call(&app, &format!("GET {path}"), "").await.expect(200);
        assert_eq!(
            (&later["version"], later["entries"] == now["entries"]),
            (&now["version"], true)
        );
        let again = json!({"file": first, "from": "end"});
        patch(&app, &path, json!({"source": again})).await.expect(200);
        until(&app, &path, |now| now["source"]["last_success"].is_u64()).await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_command_that_runs_ends_before_the_next_source_begins() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let line = |script: String| format!("sh -c '{script}'").parse().unwrap();
    let said_by = said.display();
    let commands = [
        (
            "slow".to_owned(),
            line(format!("echo begun >{said_by}; sleep 1; echo late; echo late >>{said_by}")),
        ),
        ("said".to_owned(), line(format!("cat {said_by}"))),
    ];
    let app = server(Allowed { commands: commands.into(), ..Allowed::default() });
    let path = create(&app, json!({"kind": "feed", "source": {"command": "slow"}})).await;
    while !said.exists() || fs::read(&said).unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let source = json!({"command": "said", "every_seconds": 1});
    patch(&app, &path, json!({"source": source})).await.expect(200);
    tokio::time::sleep(Duration::from_millis(2_300)).await;
    let now = call(&app, &format!("GET {path}"), "").await.expect(200);
    assert_eq!(texts(&now), ["begun\n"], "{now}");
}

//! The description says what the router does: every route and method, and nothing else.

use crate::harness::{Setup, call};
use std::collections::BTreeSet;

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// Paths of the router, as it prints itself: axum offers no other way to ask.
fn paths(router: &axum::Router) -> BTreeSet<String> {
    let printed = format!("{router:?}");
    let quoted = printed.split('"').skip(1).step_by(2);
    quoted
        .filter(|text| text.starts_with('/') && !text.contains("__private"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn every_route_is_described_and_nothing_else() {
    let app = Setup::default().app();
    let paths = paths(&app);
    for known in ["/v1/generate", "/v1/chat/completions", "/v1/fragments/{id}"] {
        assert!(paths.contains(known), "the router no longer prints {known}");
    }
    let mut served = BTreeSet::new();
    for path in &paths {
        for method in METHODS {
            let line = format!("{method} {}", path.replace("{id}", "x"));
            if call(&app, &line, "").await.status != 405 {
                served.insert(format!("{method} {path}"));
            }
        }
    }
    let description = call(&app, "GET /openapi.json", "").await.expect(200);
    let mut described = BTreeSet::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(!operation["responses"].as_object().unwrap().is_empty(), "{method} {path}");
            described.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    assert_eq!(described, served);
    let index = call(&app, "GET /", "").await.expect(200);
    let mut listed: BTreeSet<String> = index["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap().into())
        .collect();
    listed.insert("GET /".to_owned());
    assert_eq!(listed, served);
}

//! The description says what it should, without a server.

use super::Description;
use serde_json::Value;
use utoipa::OpenApi;

fn description() -> Value {
    serde_json::to_value(Description::openapi()).unwrap()
}

#[test]
fn it_is_openapi_3_1_and_every_reference_leads_somewhere() {
    let description = description();
    assert_eq!(description["openapi"], "3.1.0");
    let mut seen = 0;
    check_references(&description, &description, &mut seen);
    assert!(seen > 20, "only {seen} references");
}

fn check_references(root: &Value, node: &Value, seen: &mut usize) {
    match node {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                let path = reference.strip_prefix('#').expect("references are local");
                assert!(root.pointer(path).is_some(), "{reference} leads nowhere");
                *seen += 1;
            }
            fields.values().for_each(|value| check_references(root, value, seen));
        }
        Value::Array(items) => items.iter().for_each(|item| check_references(root, item, seen)),
        _ => {}
    }
}

#[test]
fn operations_have_ids_summaries_and_answers() {
    let description = description();
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let at = format!("{method} {path}");
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{at}: no id"));
            assert!(ids.insert(id.to_owned()), "{at}: {id} stands twice");
            assert!(operation["summary"].is_string(), "{at}: no summary");
            assert!(!operation["responses"].as_object().unwrap().is_empty(), "{at}: no answers");
        }
    }
}

#[test]
fn fields_taken_beside_the_request_types_are_described() {
    let description = description();
    let chat = &description["components"]["schemas"]["ChatCompletionRequest"]["properties"];
    for field in ["messages", "user", "tools", "n", "response_format"] {
        assert!(chat[field]["description"].is_string(), "{field}: {}", chat[field]);
    }
}

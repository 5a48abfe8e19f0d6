//! Requests that are wrong on purpose, and what each must be answered.

use super::texts::Random;
use serde_json::{Value, json};

/// A wrong request.
pub(crate) struct Bad {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) body: Option<Value>,
    /// The answer's status.
    pub(crate) status: u16,
    /// Stands in the answer: it names what was wrong.
    pub(crate) names: &'static str,
}

const GENERATE: &str = "/v1/generate";

/// One of them.
pub(crate) fn draw(random: &mut Random, context: usize) -> Bad {
    let post = |path, body, status, names| Bad { method: "POST", path, body, status, names };
    let ask = |mut body: Value, status, names| {
        if body["tail"].is_null() {
            body["tail"] = json!([{"text": "And then"}]);
        }
        post(GENERATE, Some(body), status, names)
    };
    match random.below(9) {
        0 => {
            let id = format!("frg_{:032x}", random.below(usize::MAX));
            ask(json!({"compose": [{"fragment": id}]}), 404, "compose[0].fragment")
        }
        1 => {
            let tail = json!([{"tokens": vec![1; context + 1]}]);
            ask(json!({"tail": tail, "max_tokens": 1}), 400, "context_length_exceeded")
        }
        2 => ask(json!({"join": {"policy": "query", "ratio": 1.5}}), 400, "join.ratio"),
        3 => ask(json!({"join": {"policy": "auto", "quality": 0}}), 400, "join.quality"),
        4 => ask(json!({"max_tokens": -1}), 400, "max_tokens"),
        5 => ask(json!({"no_such_field": 1}), 400, "no_such_field"),
        6 => post("/v1/generations/gen_0/cancel", None, 404, "generation_not_found"),
        7 => {
            let body = Some(json!({"text": "x"}));
            post("/v1/side-contexts/sc_0/entries", body, 404, "side_context_not_found")
        }
        _ => Bad {
            method: "DELETE",
            path: "/v1/fragments/frg_00000000000000000000000000000000",
            body: None,
            status: 404,
            names: "fragment_not_found",
        },
    }
}

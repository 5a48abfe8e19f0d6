//! The OpenAI shim: `/v1/models`, `/v1/chat/completions`, `/v1/completions`.
//!
//! It translates OpenAI's requests into engine requests and answers back, and owns nothing that
//! lives longer than a request. It is exact by default: everything is recomputed behind the
//! longest cached prefix. `usage.prompt_tokens_details.cached_tokens` counts exact reuse only;
//! what an approximate join reused stands in the answer's `cento` object instead.

pub mod chat;
pub mod completions;
mod extension;
pub mod fields;
pub mod logprobs;
pub mod messages;
pub mod models;
mod sampling;
mod stream;
#[cfg(test)]
mod tests;

use crate::{ApiError, AppState};
use axum::{
    Router,
    http::StatusCode,
    routing::{get, post},
};
use engine::Engine;
use std::sync::Arc;

/// A name for the served model, whatever it is.
const DEFAULT_MODEL: &str = "default";

/// The shim's routes.
pub(crate) fn routes() -> Router<Arc<AppState>> {
    Router::new()
        .route("/v1/models", get(models::list_models))
        .route("/v1/models/{id}", get(models::get_model))
        .route("/v1/chat/completions", post(chat::create_chat_completion))
        .route("/v1/completions", post(completions::create_completion))
}

/// Refuses a request for another model than the served one. No name means the served one.
fn check_model(served: &str, asked: Option<&str>) -> Result<(), ApiError> {
    match asked {
        Some(asked) if asked != served && asked != DEFAULT_MODEL => {
            let message = format!("no model {asked:?} here; this server serves {served:?}");
            Err(ApiError::new(StatusCode::NOT_FOUND, message)
                .with_param("model")
                .with_code("model_not_found"))
        }
        _ => Ok(()),
    }
}

/// OpenAI's `system_fingerprint`: the same as long as the same request and seed give the same
/// answer.
fn fingerprint(engine: &Engine) -> String {
    let bytes = &engine.shape().fingerprint[..6];
    bytes.iter().fold("fp_".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

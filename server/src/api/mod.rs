//! The endpoints: one file each, read down: wire types, conversion, handler.

use crate::{AppState, openapi::get_description};
use axum::{
    Json, Router,
    routing::{delete, get, post},
};
use std::sync::Arc;

pub mod compose;
pub mod deliver;
pub mod fork;
pub mod fragments;
pub mod generate;
pub mod generations;
pub mod health;
pub mod metrics;
pub mod openai;
pub mod priority;
pub mod side_contexts;
pub mod side_entries;
pub mod side_events;
pub mod side_sources;
pub mod tokenize;

/// Routes that need an API key where there are any.
pub(crate) fn keyed_routes() -> Router<Arc<AppState>> {
    Router::new()
        .route("/v1/fragments", get(fragments::list).post(fragments::put))
        .route("/v1/fragments/{id}", get(fragments::get).delete(fragments::delete))
        .route("/v1/generate", post(generate::generate))
        .route("/v1/generations/{id}", get(generations::get))
        .route("/v1/generations/{id}/events", get(generations::events))
        .route("/v1/generations/{id}/cancel", post(generations::cancel))
        .route("/v1/generations/{id}/fork", post(fork::fork))
        .route("/v1/side-contexts", get(side_contexts::list).post(side_contexts::create))
        .route(
            "/v1/side-contexts/{id}",
            get(side_contexts::get).patch(side_contexts::patch).delete(side_contexts::delete),
        )
        .route("/v1/side-contexts/{id}/entries", post(side_entries::push))
        .route("/v1/side-contexts/{id}/entries/{number}", delete(side_entries::delete))
        .route("/v1/side-contexts/{id}/events", get(side_events::events))
        .route("/v1/tokenize", post(tokenize::tokenize))
        .route("/v1/detokenize", post(tokenize::detokenize))
        .route("/metrics", get(metrics::metrics))
        .merge(openai::routes())
}

/// Routes that tell nobody's secrets.
pub(crate) fn open_routes() -> Router<Arc<AppState>> {
    Router::new()
        .route("/", get(index))
        .route("/health", get(health::health))
        .route("/openapi.json", get(get_description))
}

/// Names the endpoints.
#[utoipa::path(get, path = "/", responses((status = 200, body = serde_json::Value)))]
pub async fn index() -> Json<serde_json::Value> {
    Json(serde_json::json!({
        "name": "cento",
        "version": env!("CARGO_PKG_VERSION"),
        "endpoints": ENDPOINTS,
    }))
}

const ENDPOINTS: &[&str] = &[
    "GET /health",
    "GET /metrics",
    "GET /openapi.json",
    "GET /v1/fragments",
    "POST /v1/fragments",
    "GET /v1/fragments/{id}",
    "DELETE /v1/fragments/{id}",
    "POST /v1/generate",
    "GET /v1/generations/{id}",
    "GET /v1/generations/{id}/events",
    "POST /v1/generations/{id}/cancel",
    "POST /v1/generations/{id}/fork",
    "GET /v1/side-contexts",
    "POST /v1/side-contexts",
    "GET /v1/side-contexts/{id}",
    "PATCH /v1/side-contexts/{id}",
    "DELETE /v1/side-contexts/{id}",
    "POST /v1/side-contexts/{id}/entries",
    "DELETE /v1/side-contexts/{id}/entries/{number}",
    "GET /v1/side-contexts/{id}/events",
    "POST /v1/tokenize",
    "POST /v1/detokenize",
    "GET /v1/models",
    "GET /v1/models/{id}",
    "POST /v1/chat/completions",
    "POST /v1/completions",
];

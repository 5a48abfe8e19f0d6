//! `GET /health`: the loop takes steps, or 503.

use crate::{ApiError, AppState, blocking, limits::HEALTH_TIMEOUT};
use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// The server works.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: &'static str,
    /// The model's name.
    pub model: String,
    /// Generations running.
    pub running: usize,
    /// Generations waiting for a place.
    pub waiting: usize,
}

/// Asks the engine's loop for an answer.
#[utoipa::path(get, path = "/health", responses(
    (status = 200, body = Health),
    (status = 503, body = crate::error::ErrorBody, description = "The loop does not answer"),
))]
pub async fn health(State(state): State<Arc<AppState>>) -> Result<Json<Health>, ApiError> {
    blocking(move || {
        if !state.engine.is_alive(HEALTH_TIMEOUT) {
            let seconds = HEALTH_TIMEOUT.as_secs();
            let message = format!("the engine's loop did not answer within {seconds} seconds");
            return Err(
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).with_code("engine_down")
            );
        }
        let stats = state.engine.stats();
        let (running, waiting) = (stats.running, stats.waiting);
        Ok(Json(Health { status: "ok", model: state.model.id.clone(), running, waiting }))
    })
    .await
}

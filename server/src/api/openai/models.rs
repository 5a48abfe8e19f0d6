//! `GET /v1/models` and `GET /v1/models/{id}`: the one model this server holds.

use super::check_model;
use crate::{ApiError, AppState, error::ErrorBody};
use axum::{
    Json,
    extract::{Path, State},
};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// A model as OpenAI lists it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelObject {
    /// Its name in requests.
    pub id: String,
    /// Always `model`.
    pub object: &'static str,
    /// When it was loaded, in Unix seconds.
    pub created: u64,
    /// Always `local`.
    pub owned_by: &'static str,
    /// Positions a composition and its answer may take.
    pub context_length: usize,
    /// Hash, in hex, over all that a KV byte depends on besides tokens: weights, tokenizer, format
    /// of the KV, instruction set.
    pub fingerprint: String,
}

impl ModelObject {
    fn new(state: &AppState) -> Self {
        let shape = state.engine.shape();
        let (id, created) = (state.model.id.clone(), state.model.created);
        Self {
            id,
            object: "model",
            created,
            owned_by: "local",
            context_length: shape.context_max,
            fingerprint: blake3::Hash::from_bytes(shape.fingerprint).to_hex().to_string(),
        }
    }
}

/// The list of models.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    pub object: &'static str,
    /// The models.
    pub data: Vec<ModelObject>,
}

/// Lists the served model.
#[utoipa::path(
    get, path = "/v1/models", tag = "openai",
    responses((status = 200, body = ModelList)),
)]
pub async fn list_models(State(state): State<Arc<AppState>>) -> Json<ModelList> {
    Json(ModelList { object: "list", data: vec![ModelObject::new(&state)] })
}

/// Describes the served model.
#[utoipa::path(
    get, path = "/v1/models/{id}", tag = "openai",
    params(("id" = String, Path, description = "The served model's id, or `default`.")),
    responses(
        (status = 200, body = ModelObject),
        (status = 404, body = ErrorBody, description = "Another model was named."),
    ),
)]
pub async fn get_model(
    State(state): State<Arc<AppState>>,
    Path(id): Path<String>,
) -> Result<Json<ModelObject>, ApiError> {
    check_model(&state.model.id, Some(&id))?;
    Ok(Json(ModelObject::new(&state)))
}

//! `GET /v1/models` and `GET /v1/models/{id}`: the one model this server holds.

use super::check_model;
use crate::{ApiError, AppState, ModelInfo, error::ErrorBody};
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
}

impl ModelObject {
    fn new(model: &ModelInfo) -> Self {
        let (id, created) = (model.id.clone(), model.created);
        Self { id, object: "model", created, owned_by: "local" }
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
    Json(ModelList { object: "list", data: vec![ModelObject::new(&state.model)] })
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
    Ok(Json(ModelObject::new(&state.model)))
}

//! `POST /v1/tokenize` and `/v1/detokenize`.

use crate::{ApiError, AppState, JsonBody, api::compose::check_tokens, blocking};
use axum::{Json, extract::State};
use models::TokenId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Text to tokens.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenizeBody {
    /// The text; no BOS is added.
    pub text: String,
    /// Special tokens written in the text become their ids (default: true).
    pub special: Option<bool>,
}

/// Tokens of a text.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Tokenized {
    /// Ids.
    pub tokens: Vec<TokenId>,
    /// How many.
    pub count: usize,
}

/// Tokens to text.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DetokenizeBody {
    /// Ids.
    pub tokens: Vec<TokenId>,
    /// Special tokens are written out (default: true).
    pub special: Option<bool>,
}

/// Text of tokens.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Detokenized {
    /// The text; bytes that are no UTF-8 become U+FFFD.
    pub text: String,
}

/// Text to token ids.
#[utoipa::path(post, path = "/v1/tokenize", request_body = TokenizeBody, responses(
    (status = 200, body = Tokenized),
    (status = 400, body = crate::error::ErrorBody),
))]
pub async fn tokenize(
    State(state): State<Arc<AppState>>,
    JsonBody(body): JsonBody<TokenizeBody>,
) -> Result<Json<Tokenized>, ApiError> {
    blocking(move || {
        let tokens = state.tokenizer.encode(&body.text, body.special.unwrap_or(true));
        Ok(Json(Tokenized { count: tokens.len(), tokens }))
    })
    .await
}

/// Token ids to text.
#[utoipa::path(post, path = "/v1/detokenize", request_body = DetokenizeBody, responses(
    (status = 200, body = Detokenized),
    (status = 400, body = crate::error::ErrorBody),
))]
pub async fn detokenize(
    State(state): State<Arc<AppState>>,
    JsonBody(body): JsonBody<DetokenizeBody>,
) -> Result<Json<Detokenized>, ApiError> {
    blocking(move || {
        check_tokens(&state, "tokens", &body.tokens)?;
        let text = state.tokenizer.decode(&body.tokens, body.special.unwrap_or(true));
        Ok(Json(Detokenized { text }))
    })
    .await
}

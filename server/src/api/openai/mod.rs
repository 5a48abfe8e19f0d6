//! The OpenAI shim.

use crate::AppState;
use axum::Router;
use std::sync::Arc;

/// Its routes.
pub(crate) fn routes() -> Router<Arc<AppState>> {
    Router::new()
}

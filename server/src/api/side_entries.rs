//! `/v1/side-contexts/{id}/entries`: what comes into a side context, and is taken away.

use crate::{
    ApiError, AppState, JsonBody, Tenant, blocking,
    side::{NewEntry, push_entry, take_entry},
};
use axum::{
    Json,
    extract::{Path, State},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// An entry to add: `text` for a feed or a log; `gist`, `from` and `message` for an inbox.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EntryBody {
    /// `feed`, `log`: its text (at most 64 KiB). Special tokens written in it stay text.
    pub text: Option<String>,
    /// `inbox`: what the message is about, in a line (at most 512 bytes); never its body.
    pub gist: Option<String>,
    /// `inbox`: who sent it.
    pub from: Option<String>,
    /// `inbox`: the message's id.
    pub message: Option<String>,
}

/// What became of a pushed entry.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EntryPushed {
    /// Its number.
    pub number: u64,
    /// The context's version with it.
    pub version: u64,
    /// Numbers of the entries that rolled off for it.
    pub rolled_off: Vec<u64>,
}

/// An entry was taken away.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EntryDeleted {
    /// Its number.
    pub number: u64,
    /// `entry`.
    pub object: &'static str,
    /// `true`.
    pub deleted: bool,
    /// The context's version without it.
    pub version: u64,
}

/// Adds an entry to a feed or a log, or a message to an inbox.
#[utoipa::path(post, path = "/v1/side-contexts/{id}/entries", operation_id = "push_entry",
    request_body = EntryBody, responses(
    (status = 200, body = EntryPushed),
    (status = 400, body = crate::error::ErrorBody),
    (status = 404, body = crate::error::ErrorBody),
    (status = 409, body = crate::error::ErrorBody),
))]
pub async fn push(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<EntryBody>,
) -> Result<Json<EntryPushed>, ApiError> {
    let EntryBody { text, gist, from, message } = body;
    let entry = NewEntry { text, gist, from, message, source: None };
    blocking(move || {
        let pushed = push_entry(&state, &tenant.0, &id, entry)?;
        let (number, version) = (pushed.number, pushed.version);
        Ok(Json(EntryPushed { number, version, rolled_off: pushed.rolled_off }))
    })
    .await
}

/// Takes one entry away: a message of an inbox when it was read, an entry of a feed or a log when it is
/// not wanted any more. The others stay as they are, and nothing of them is computed again. A second
/// time it is 404, so that of two readers one knows that it was the first.
#[utoipa::path(delete, path = "/v1/side-contexts/{id}/entries/{number}",
    operation_id = "delete_entry", responses(
    (status = 200, body = EntryDeleted),
    (status = 400, body = crate::error::ErrorBody),
    (status = 404, body = crate::error::ErrorBody),
))]
pub async fn delete(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
    Path((id, number)): Path<(String, String)>,
) -> Result<Json<EntryDeleted>, ApiError> {
    let number = number.parse::<u64>().map_err(|_| {
        let message = format!("number is {number:?}; it must be an entry's number");
        ApiError::bad_request("number", message)
    })?;
    blocking(move || {
        let version = take_entry(&state, &tenant.0, &id, number)?;
        Ok(Json(EntryDeleted { number, object: "entry", deleted: true, version }))
    })
    .await
}

//! `/v1/fragments`: encode once, list, look at, forget.

use crate::{
    ApiError, AppState, JsonBody, Tenant,
    api::compose::{
        MessageBody, RootBody, at_most, check_name, check_tokens, not_empty, one_of, parse_id,
        root_tokens, turns_error,
    },
    api::generations::parameters,
    api::priority::{PriorityBody, priority},
    blocking,
    limits::TAIL_PARTS_MAX,
};
use axum::{
    Json,
    extract::{Path, State},
};
use engine::{FragmentInfo, FragmentSpec, Sealed};
use models::TokenId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// A fragment to encode. One of `text`, `tokens`, `messages` is given.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FragmentBody {
    /// Text. Special tokens written in it stay text.
    pub text: Option<String>,
    /// Token ids, taken as they are.
    pub tokens: Option<Vec<TokenId>>,
    /// Messages, each with its role's template text around it.
    pub messages: Option<Vec<MessageBody>>,
    /// With `text`: the chat template's text of this role is put around it.
    pub role: Option<String>,
    /// A name for listings.
    pub name: Option<String>,
    /// What it is encoded after; the model's default when absent.
    pub root: Option<RootBody>,
    /// Keeps its KV from being evicted (default: false).
    pub pin: Option<bool>,
    /// How urgent encoding it is (default: `normal`).
    pub priority: Option<PriorityBody>,
}

/// A fragment.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FragmentObject {
    /// `frg_..`: the hash of its content and of all its KV depends on.
    pub id: String,
    /// `fragment`.
    pub object: &'static str,
    /// When this server first saw it, in Unix seconds.
    pub created: Option<u64>,
    /// The client's name for it.
    pub name: Option<String>,
    /// Its length in tokens.
    pub tokens: usize,
    /// Its root's length in tokens.
    pub root_tokens: usize,
    /// Put: its KV was there already. Get, list: its KV is in memory.
    pub cached: bool,
    /// Its KV is kept beyond the pages that requests run on: it comes back after eviction, and, where
    /// it is on disk or in a shared store, after a restart.
    pub stored: bool,
    /// Kept from eviction.
    pub pinned: bool,
    /// Generations that hold it now.
    pub users: usize,
    /// Its text, when one fragment is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Hash of its KV bytes in hex, with `digest=true`, when its KV is in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Of a fragment sealed from a tail: what it saw. Absent of a clean one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contextual: Option<ContextualObject>,
}

/// What a fragment saw besides its root. It cannot be encoded again: evicted, it is forgotten unless
/// it is `stored`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ContextualObject {
    /// Ids of the fragments that stood before it, in order.
    pub saw: Vec<String>,
    /// The policy they were joined by.
    pub policy: &'static str,
    /// Its parameters, by name.
    #[serde(flatten)]
    #[schema(value_type = std::collections::BTreeMap<String, f64>)]
    pub parameters: serde_json::Map<String, serde_json::Value>,
    /// How many of their tokens had been computed again.
    pub recomputed_tokens: usize,
    /// The position it was computed at.
    pub start: u32,
}

impl From<&Sealed> for ContextualObject {
    fn from(sealed: &Sealed) -> Self {
        Self {
            saw: sealed.saw.iter().map(ToString::to_string).collect(),
            policy: sealed.policy.form().name,
            parameters: parameters(&sealed.policy),
            recomputed_tokens: sealed.selected.len(),
            start: sealed.start,
        }
    }
}

impl FragmentObject {
    fn new(state: &AppState, tenant: &Tenant, info: &FragmentInfo) -> Self {
        let named = state.fragment_names.get(&tenant.0, info.id);
        let hex = |bytes: [u8; 32]| blake3::Hash::from_bytes(bytes).to_hex().to_string();
        Self {
            id: info.id.to_string(),
            object: "fragment",
            created: named.as_ref().map(|named| named.created),
            name: named.and_then(|named| named.name),
            tokens: info.tokens.len(),
            root_tokens: info.root.len(),
            cached: info.cached,
            stored: info.stored,
            pinned: info.pinned,
            users: info.users,
            text: None,
            digest: info.digest.map(hex),
            contextual: info.sealed.as_deref().map(ContextualObject::from),
        }
    }
}

/// Fragments, most recently used first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FragmentList {
    /// `list`.
    pub object: &'static str,
    /// The fragments.
    pub data: Vec<FragmentObject>,
}

/// What of a fragment to compute.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct FragmentQuery {
    /// Hash its KV bytes.
    pub digest: Option<bool>,
}

/// A fragment was forgotten.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FragmentDeleted {
    /// Its id.
    pub id: String,
    /// `fragment`.
    pub object: &'static str,
    /// `true`.
    pub deleted: bool,
}

/// Encodes a fragment unless it is cached.
#[utoipa::path(post, path = "/v1/fragments", operation_id = "put_fragment",
    request_body = FragmentBody, responses(
    (status = 200, body = FragmentObject),
    (status = 400, body = crate::error::ErrorBody),
))]
pub async fn put(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
    JsonBody(body): JsonBody<FragmentBody>,
) -> Result<Json<FragmentObject>, ApiError> {
    let permit = Arc::clone(&state.puts).acquire_owned().await;
    blocking(move || {
        // Kept until the engine has answered, also when the client has gone.
        let _permit = permit.expect("the semaphore is never closed");
        check_name("name", body.name.as_deref())?;
        let root = root_tokens(&state, &tenant, body.root.as_ref())?;
        let tokens = own_tokens(&state, &body)?.into();
        let pin = body.pin.unwrap_or(false);
        let (tenant_name, priority) = (Arc::clone(&tenant.0), priority(body.priority));
        let spec = FragmentSpec { tenant: tenant_name, root, tokens, pin, priority };
        let info = state.engine.put_fragment(spec)?;
        state.fragment_names.put(&tenant.0, info.id, body.name, state.time.unix_seconds());
        Ok(Json(FragmentObject::new(&state, &tenant, &info)))
    })
    .await
}

fn own_tokens(state: &AppState, body: &FragmentBody) -> Result<Vec<TokenId>, ApiError> {
    let role = body.role.as_deref();
    let (param, tokens) = match (&body.text, &body.tokens, &body.messages) {
        (Some(text), None, None) => {
            let tokens = state.turns.part(role, text);
            ("text", tokens.map_err(|error| turns_error("text", &error))?)
        }
        (None, Some(tokens), None) => {
            refuse_role(role)?;
            check_tokens(state, "tokens", tokens)?;
            ("tokens", tokens.clone())
        }
        (None, None, Some(messages)) => {
            refuse_role(role)?;
            ("messages", message_tokens(state, messages)?)
        }
        _ => return Err(one_of("text", "`text`, `tokens`, `messages`")),
    };
    not_empty(param, &tokens)?;
    Ok(tokens)
}

fn refuse_role(role: Option<&str>) -> Result<(), ApiError> {
    match role {
        None => Ok(()),
        Some(_) => Err(ApiError::bad_request("role", "role: goes with `text` only")),
    }
}

fn message_tokens(state: &AppState, messages: &[MessageBody]) -> Result<Vec<TokenId>, ApiError> {
    at_most("messages", "messages", messages.len(), TAIL_PARTS_MAX)?;
    let mut tokens = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let part = state.turns.part(Some(&message.role), &message.content);
        tokens.extend(part.map_err(|error| turns_error(&format!("messages[{index}]"), &error))?);
    }
    Ok(tokens)
}

/// All fragments of the caller, most recently used first.
#[utoipa::path(get, path = "/v1/fragments", operation_id = "list_fragments",
    responses((status = 200, body = FragmentList)))]
pub async fn list(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
) -> Result<Json<FragmentList>, ApiError> {
    blocking(move || {
        let infos = state.engine.fragments(&tenant.0)?;
        let data = infos.iter().map(|info| FragmentObject::new(&state, &tenant, info)).collect();
        Ok(Json(FragmentList { object: "list", data }))
    })
    .await
}

/// One fragment, with its text.
#[utoipa::path(get, path = "/v1/fragments/{id}", operation_id = "get_fragment",
    params(FragmentQuery), responses(
    (status = 200, body = FragmentObject),
    (status = 404, body = crate::error::ErrorBody),
))]
pub async fn get(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
    Path(id): Path<String>,
    crate::extract::QueryFields(query): crate::extract::QueryFields<FragmentQuery>,
) -> Result<Json<FragmentObject>, ApiError> {
    blocking(move || {
        let digest = query.digest.unwrap_or(false);
        let info = state.engine.fragment(&tenant.0, parse_id(&id)?, digest)?;
        let mut object = FragmentObject::new(&state, &tenant, &info);
        object.text = Some(state.tokenizer.decode(&info.tokens, true));
        Ok(Json(object))
    })
    .await
}

/// Forgets a fragment.
#[utoipa::path(delete, path = "/v1/fragments/{id}", operation_id = "delete_fragment",
    responses(
    (status = 200, body = FragmentDeleted),
    (status = 404, body = crate::error::ErrorBody),
    (status = 409, body = crate::error::ErrorBody, description = "A generation holds it"),
))]
pub async fn delete(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
    Path(id): Path<String>,
) -> Result<Json<FragmentDeleted>, ApiError> {
    blocking(move || {
        let fragment = parse_id(&id)?;
        state.engine.drop_fragment(&tenant.0, fragment)?;
        state.fragment_names.remove(&tenant.0, fragment);
        Ok(Json(FragmentDeleted { id, object: "fragment", deleted: true }))
    })
    .await
}

//! The API's description: OpenAPI 3.1, served at `/openapi.json`.
//!
//! Schemas and paths are derived from the wire types and handlers; what the OpenAI shim takes
//! beside its request types (fields that do nothing, fields taken at one value) is added from the
//! same tables that the handlers read. A test binds the description to the router.

use crate::api::{
    self, fork, fragments, generate, generations, health, metrics,
    openai::{chat, completions, fields::Fields, models},
    side_contexts, side_entries, side_events, tokenize,
};
use axum::Json;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        RefOr,
        schema::{ObjectBuilder, Schema},
    },
};

/// The description's root.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Cento",
        description = "Local inference over cached context fragments, joined without prefill."
    ),
    paths(
        api::index,
        health::health,
        metrics::metrics,
        get_description,
        fragments::list,
        fragments::put,
        fragments::get,
        fragments::delete,
        generate::generate,
        generations::get,
        generations::events,
        generations::cancel,
        fork::fork,
        side_contexts::create,
        side_contexts::list,
        side_contexts::get,
        side_contexts::patch,
        side_contexts::delete,
        side_entries::push,
        side_entries::delete,
        side_events::events,
        tokenize::tokenize,
        tokenize::detokenize,
        models::list_models,
        models::get_model,
        chat::create_chat_completion,
        completions::create_completion,
    ),
    modifiers(&ShimFields),
)]
pub struct Description;

/// This description.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = serde_json::Value)))]
pub async fn get_description() -> Json<utoipa::openapi::OpenApi> {
    Json(Description::openapi())
}

/// Adds the fields of [`Fields`] to the schemas of the shim's requests.
struct ShimFields;

impl Modify for ShimFields {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let Some(components) = &mut description.components else { return };
        let requests =
            [("ChatCompletionRequest", &chat::FIELDS), ("CompletionRequest", &completions::FIELDS)];
        for (name, fields) in requests {
            if let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(name) {
                for (field, text) in documented(fields) {
                    let schema = ObjectBuilder::new().description(Some(text)).build();
                    object.properties.insert(field.to_owned(), schema.into());
                }
            }
        }
    }
}

fn documented(fields: &Fields) -> impl Iterator<Item = (&'static str, String)> {
    let ignored =
        fields.ignored.iter().map(|(name, why)| (*name, format!("Taken and ignored: {why}.")));
    let limited = fields
        .limited
        .iter()
        .map(|field| (field.name, format!("Taken only where it asks for nothing: {}.", field.why)));
    ignored.chain(limited)
}

#[cfg(test)]
mod tests;

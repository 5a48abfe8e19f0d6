//! JSON bodies, refused with the place and the reason.

use crate::{ApiError, AppState, limits::BODY_DRAIN_FACTOR, limits::BODY_TIMEOUT};
use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Query, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// The request's body, read within the limits and decoded; errors name the field.
///
/// The content type is not looked at: `curl -d` without a header works. Pages of other origins
/// are kept out by their `Origin` header instead.
#[derive(Clone, Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<AppState>> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<AppState>) -> Result<Self, ApiError> {
        let limit = state.limits.body_bytes_max;
        let (parts, body) = request.into_parts();
        let reading = read_body(&parts.headers, body, limit);
        let Ok(bytes) = tokio::time::timeout(BODY_TIMEOUT, reading).await else {
            let seconds = BODY_TIMEOUT.as_secs();
            let message = format!("the body did not arrive within {seconds} seconds");
            return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message));
        };
        decode(&bytes?).map(Self)
    }
}

/// The query string, decoded; errors are the API's.
#[derive(Clone, Copy, Debug)]
pub struct QueryFields<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for QueryFields<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|Query(value)| Self(value)).map_err(|rejection| {
            let text = rejection.body_text();
            let param = text.split_once("unknown field `").or_else(|| text.split_once("string: "));
            let param = param.and_then(|(_, rest)| rest.split(['`', ':']).next());
            ApiError::bad_request(param.unwrap_or("query"), text.clone())
        })
    }
}

/// The whole body, or 413 with the limit and what was sent.
async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Vec<u8>, ApiError> {
    let declared = headers.get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    let mut bytes = Vec::with_capacity(declared.unwrap_or(0).min(limit));
    let mut read = 0usize;
    let mut frames = body.into_data_stream();
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(|error| {
            ApiError::new(StatusCode::BAD_REQUEST, format!("the body could not be read: {error}"))
        })?;
        read += frame.len();
        if read <= limit {
            bytes.extend_from_slice(&frame);
        } else if read > limit.saturating_mul(BODY_DRAIN_FACTOR) {
            break;
        }
    }
    if read <= limit {
        return Ok(bytes);
    }
    let given = declared.map_or_else(|| format!("at least {read}"), |n| n.to_string());
    let message = format!("the body has {given} bytes; the limit is {limit}");
    Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message).with_code("body_too_large"))
}

/// Decodes JSON; nothing may follow it.
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        describe(&path, error.inner())
    })?;
    json.end().map_err(|error| describe(".", &error))?;
    Ok(value)
}

/// Says which field is wrong, or where the JSON ends to be JSON.
pub(crate) fn describe(path: &str, error: &serde_json::Error) -> ApiError {
    let message = error.to_string();
    if !error.is_data() {
        let message = format!("the body is not valid JSON: {message}");
        return ApiError::new(StatusCode::BAD_REQUEST, message).with_code("invalid_json");
    }
    // serde names these fields in its message only; the path ends at their parent.
    let quoted = |prefix: &str| {
        let rest = message.strip_prefix(prefix)?;
        rest.split_once('`').map(|(name, _)| name.to_owned())
    };
    let parent = if path == "." { String::new() } else { format!("{path}.") };
    if let Some(name) = quoted("unknown field `") {
        let known_as_part =
            parent.strip_suffix('.').is_some_and(|p| p == name || p.ends_with(&format!(".{name}")));
        let param = if known_as_part { path.to_owned() } else { format!("{parent}{name}") };
        return ApiError::bad_request(param, message).with_code("unknown_field");
    }
    if let Some(name) = quoted("duplicate field `") {
        return ApiError::bad_request(format!("{parent}{name}"), message)
            .with_code("duplicate_field");
    }
    if let Some(name) = quoted("missing field `") {
        return ApiError::bad_request(format!("{parent}{name}"), message)
            .with_code("missing_field");
    }
    if path == "." {
        let message = format!("the body has the wrong type: {message}");
        return ApiError::new(StatusCode::BAD_REQUEST, message).with_code("wrong_type");
    }
    ApiError::bad_request(path, format!("{path}: {message}")).with_code("wrong_type")
}

#[cfg(test)]
mod tests;

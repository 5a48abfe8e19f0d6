//! The one error type of the API: decides status, body and headers.
//!
//! The body is OpenAI's error object: `{"error": {"message", "type", "param", "code"}}`.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use engine::RequestError;
use serde::Serialize;
use utoipa::ToSchema;

/// A refusal or a failure, as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
    retry_after_seconds: Option<u32>,
}

impl ApiError {
    /// 400: the request is wrong at `param`.
    pub fn bad_request(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message).with_param(param)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message).with_code("not_found")
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Any status, with the type that goes with it.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let (param, code, retry_after_seconds) = (None, None, None);
        Self { status, kind, message: message.into(), param, code, retry_after_seconds }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// A word programs can compare.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Adds `Retry-After`.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The body, also sent inside streams.
    pub fn body(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorObject {
                message: self.message.clone(),
                kind: self.kind.to_owned(),
                param: self.param.clone(),
                code: self.code.map(str::to_owned),
            },
        }
    }
}

/// `{"error": {..}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorObject,
}

/// OpenAI's error object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorObject {
    /// For people; holds the limit and the value given.
    pub message: String,
    /// `invalid_request_error`, `rate_limit_error` or `server_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The field at fault, as a path: `compose[2].text`.
    pub param: Option<String>,
    /// For programs.
    pub code: Option<String>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(LoggedError(self));
        response
    }
}

/// Rides on the response so that the request's log line can say why it failed.
#[derive(Clone, Debug)]
pub(crate) struct LoggedError(pub(crate) ApiError);

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let message = error.to_string();
        match error {
            RequestError::Empty { what } => {
                let param = what.strip_prefix("the ").unwrap_or(what);
                Self::bad_request(param, message).with_code("empty")
            }
            RequestError::UnknownToken { .. } => {
                Self::new(StatusCode::BAD_REQUEST, message).with_code("unknown_token")
            }
            RequestError::UnknownFragment(_) => {
                Self::not_found(message).with_code("fragment_not_found")
            }
            RequestError::ContextTooLong { .. } => {
                Self::new(StatusCode::BAD_REQUEST, message).with_code("context_length_exceeded")
            }
            RequestError::MemoryTooSmall { .. } => {
                Self::new(StatusCode::BAD_REQUEST, message).with_code("memory_too_small")
            }
            RequestError::QueueFull { .. } => Self::new(StatusCode::TOO_MANY_REQUESTS, message)
                .with_code("queue_full")
                .with_retry_after(1),
            RequestError::OutOfRange { name, .. } => {
                Self::bad_request(name, message).with_code("out_of_range")
            }
            RequestError::NotRunning(_) | RequestError::NotCached(_) => {
                Self::new(StatusCode::CONFLICT, message).with_code("not_now")
            }
            RequestError::InUse(..) => {
                Self::new(StatusCode::CONFLICT, message).with_code("fragment_in_use")
            }
            RequestError::EngineDown(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, message).with_code("engine_down")
            }
        }
    }
}

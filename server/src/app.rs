//! The router: which path goes where, and what every request passes through.

use crate::{ApiError, AppState, api, auth::authenticate, error::LoggedError, random_id};
use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use std::{any::Any, sync::Arc};
use tower_http::catch_panic::CatchPanicLayer;

/// The whole API over a state.
pub fn app(state: Arc<AppState>) -> Router {
    let keyed =
        api::keyed_routes().layer(middleware::from_fn_with_state(Arc::clone(&state), authenticate));
    Router::new()
        .merge(keyed)
        .merge(api::open_routes())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        // Bodies are limited where they are read, with a message that holds the sizes.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::clone(&state), time_limit))
        .layer(middleware::from_fn(same_origin))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), observe))
        .with_state(state)
}

async fn not_found(method: Method, uri: Uri) -> ApiError {
    ApiError::not_found(format!("no such endpoint: {method} {}; GET / lists them", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}; GET / lists the endpoints", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message).with_code("method_not_allowed")
}

#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!(panic = text, "a handler panicked");
    ApiError::internal("the server made a mistake; its log says more").into_response()
}

/// Bounds the time until a response starts; a stream starts at once and then has no limit.
async fn time_limit(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    let limit = state.limits.response_timeout;
    let response = tokio::time::timeout(limit, next.run(request)).await;
    response.unwrap_or_else(|_| {
        let message = format!(
            "no answer within {} seconds; stream it, or run it in the background",
            limit.as_secs()
        );
        ApiError::new(StatusCode::REQUEST_TIMEOUT, message).with_code("timeout").into_response()
    })
}

/// Keeps pages of other sites, opened in a browser on this machine, from using the API: browsers
/// send `Origin` with every request that could change something, and it must be this server's.
async fn same_origin(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let origin = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok());
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let foreign = origin.filter(|origin| {
        let authority = origin.split_once("://").map_or(*origin, |(_, authority)| authority);
        Some(authority) != host
    });
    if let Some(origin) = foreign {
        let message = format!("requests from pages of {origin} are not allowed here");
        return ApiError::new(StatusCode::FORBIDDEN, message)
            .with_code("foreign_origin")
            .into_response();
    }
    next.run(request).await
}

/// One log line, one count and one id for each request.
async fn observe(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    let start = state.time.now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let given = request.headers().get(&REQUEST_ID).cloned();
    let id = given.unwrap_or_else(|| {
        HeaderValue::from_str(&random_id("req_")).expect("hex digits are a header value")
    });

    let mut response = next.run(request).await;

    let took = state.time.now().saturating_sub(start);
    let status = response.status().as_u16();
    state.metrics.request(&route, status, took);
    let id_text = id.to_str().unwrap_or("not text");
    let took_ms = took.as_secs_f64() * 1e3;
    if let Some(LoggedError(error)) = response.extensions_mut().remove() {
        tracing::info!(%method, path, status, took_ms, id = id_text, error = error.message());
    } else {
        tracing::info!(%method, path, status, took_ms, id = id_text);
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

//! Who asks: API keys, and the tenant each stands for.

use crate::{ApiError, AppState};
use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// Who a request is from; nothing is shared between tenants. `local` without API keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant(pub Arc<str>);

impl Tenant {
    /// The only tenant of a server without API keys.
    pub fn local() -> Self {
        Self("local".into())
    }
}

impl<S: Sync> FromRequestParts<S> for Tenant {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let tenant = parts.extensions.get::<Self>().cloned();
        tenant.ok_or_else(|| ApiError::internal("this route is not behind authentication"))
    }
}

/// Keys that open the API; none leave it open to whoever reaches it.
///
/// Holds hashes: `blake3::Hash` compares in constant time, and a memory dump shows no key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiKeys {
    keys: Vec<(blake3::Hash, Tenant)>,
}

impl ApiKeys {
    /// Reads one key a line, `key` or `name:key`; blank lines and lines from `#` are skipped. A key
    /// without a name gets a tenant derived from its hash: the order of lines does not matter.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys: Vec<(blake3::Hash, Tenant)> = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, key) = line.split_once(':').map_or((None, line), |(n, k)| (Some(n), k));
            let (name, key) = (name.map(str::trim), key.trim());
            if key.is_empty() || name.is_some_and(str::is_empty) {
                return Err(format!("line {number}: expected `key` or `name:key`"));
            }
            let hash = blake3::hash(key.as_bytes());
            if keys.iter().any(|(known, _)| *known == hash) {
                return Err(format!("line {number}: this key stands on an earlier line too"));
            }
            let name = name.map_or_else(|| format!("key_{}", &hash.to_hex()[..12]), str::to_owned);
            keys.push((hash, Tenant(name.into())));
        }
        if keys.is_empty() {
            return Err("no keys: expected one `key` or `name:key` a line".to_owned());
        }
        Ok(Self { keys })
    }

    /// No key is needed.
    pub fn is_open(&self) -> bool {
        self.keys.is_empty()
    }

    fn tenant(&self, headers: &HeaderMap) -> Result<Tenant, ApiError> {
        if self.is_open() {
            return Ok(Tenant::local());
        }
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = given.and_then(|value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
        });
        let Some(bearer) = bearer else {
            return Err(refused("an API key is needed: send `Authorization: Bearer KEY`"));
        };
        let hash = blake3::hash(bearer.as_bytes());
        // No early exit: the time must not tell which line matched.
        let found = self.keys.iter().fold(
            None,
            |found, (known, tenant)| {
                if *known == hash { Some(tenant) } else { found }
            },
        );
        found.cloned().ok_or_else(|| refused("the API key is not known here"))
    }
}

fn refused(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, message).with_code("invalid_api_key")
}

/// Middleware: finds the tenant or refuses.
pub(crate) async fn authenticate(
    State(state): State<Arc<AppState>>,
    mut request: Request,
    next: Next,
) -> Response {
    match state.keys.tenant(request.headers()) {
        Ok(tenant) => {
            request.extensions_mut().insert(tenant);
            next.run(request).await
        }
        Err(error) => {
            let mut response = error.into_response();
            let challenge = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            response
        }
    }
}

#[cfg(test)]
mod tests;

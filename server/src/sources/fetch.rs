//! One GET, guarded: only hosts that may be asked, at addresses that may be dialled, within bounds of
//! time and size; each redirect is checked like a URL of its own.

use super::{Hosts, SourceError, guard::Resolver};
use crate::limits::{SOURCE_REDIRECTS_MAX, SOURCE_RESPONSE_BYTES_MAX, SOURCE_URL_TIMEOUT};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{
        ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
        IF_NONE_MATCH, LAST_MODIFIED, LOCATION,
    },
    redirect::Policy,
};
use std::{
    error::Error,
    sync::{Arc, OnceLock},
};

/// The web, as far as it may be asked.
#[derive(Debug)]
pub(crate) struct Web {
    hosts: Arc<Hosts>,
    /// Made for the first URL: it reads the machine's certificates.
    client: OnceLock<Client>,
}

/// An answer.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// What the validators stand for is still current.
    NotModified,
    /// Something else.
    Document(Document),
}

/// What stands at a URL.
#[derive(Debug)]
pub(crate) struct Document {
    /// Its media type, in lower case and without parameters; empty when the answer names none.
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) validators: Validators,
}

/// What a server knows a document by, to say that it is still the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Validators {
    etag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
}

impl Web {
    pub(crate) fn new(hosts: Hosts) -> Self {
        Self { hosts: Arc::new(hosts), client: OnceLock::new() }
    }

    /// Whether a URL may be asked, as far as its text says.
    ///
    /// # Errors
    /// It may not.
    pub(crate) fn check(&self, url: &Url) -> Result<(), SourceError> {
        Ok(self.hosts.check(url)?)
    }

    /// Asks for what is at a URL, and was another when `known` was true of it.
    ///
    /// # Errors
    /// It may not be asked, or gives no answer that can be used.
    pub(crate) async fn get(&self, url: &Url, known: &Validators) -> Result<Fetched, SourceError> {
        let answer = tokio::time::timeout(SOURCE_URL_TIMEOUT, self.follow(url.clone(), known));
        answer.await.unwrap_or(Err(SourceError::Slow(SOURCE_URL_TIMEOUT)))
    }

    async fn follow(&self, mut url: Url, known: &Validators) -> Result<Fetched, SourceError> {
        let client = self.client()?;
        for _ in 0..=SOURCE_REDIRECTS_MAX {
            self.check(&url)?;
            let request = client.get(url.clone()).headers(known.headers());
            let response = request.send().await.map_err(|error| no_answer(&error))?;
            match response.status() {
                StatusCode::NOT_MODIFIED => return Ok(Fetched::NotModified),
                status if status.is_success() => {
                    return document(response).await.map(Fetched::Document);
                }
                status if status.is_redirection() => url = target(&url, &response)?,
                status => return Err(SourceError::Status(status.to_string())),
            }
        }
        Err(SourceError::Redirects(SOURCE_REDIRECTS_MAX))
    }

    fn client(&self) -> Result<&Client, SourceError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::builder()
            .user_agent(concat!("cento/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            // A proxy would resolve names by itself, behind the guard's back.
            .no_proxy()
            .referer(false)
            .dns_resolver(Arc::new(Resolver(Arc::clone(&self.hosts))))
            .build()
            .map_err(|error| no_answer(&error))?;
        Ok(self.client.get_or_init(|| client))
    }
}

impl Validators {
    fn of(headers: &HeaderMap) -> Self {
        let get = |name: HeaderName| headers.get(name).cloned();
        Self { etag: get(ETAG), modified: get(LAST_MODIFIED) }
    }

    fn headers(&self) -> HeaderMap {
        let accept = "application/atom+xml, application/rss+xml, application/feed+json, \
                      application/json, text/plain, */*;q=0.5";
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let conditions = [(IF_NONE_MATCH, &self.etag), (IF_MODIFIED_SINCE, &self.modified)];
        for (name, value) in conditions {
            headers.extend(value.clone().map(|value| (name, value)));
        }
        headers
    }
}

/// Where a redirect leads.
fn target(url: &Url, response: &Response) -> Result<Url, SourceError> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| SourceError::Status(response.status().to_string()))?;
    url.join(location).map_err(|error| SourceError::Url(location.to_owned(), error.to_string()))
}

/// Reads an answer, within the bound.
async fn document(mut response: Response) -> Result<Document, SourceError> {
    let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    let media_type = media_type.trim().to_ascii_lowercase();
    let validators = Validators::of(response.headers());
    let is_large = |bytes: u64| bytes > SOURCE_RESPONSE_BYTES_MAX as u64;
    if response.content_length().is_some_and(is_large) {
        return Err(SourceError::TooLarge);
    }
    let mut bytes = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| no_answer(&error))? {
        bytes.extend_from_slice(&part);
        if is_large(bytes.len() as u64) {
            return Err(SourceError::TooLarge);
        }
    }
    Ok(Document { media_type, bytes, validators })
}

/// What went wrong at the bottom of it: the layers above say little.
fn no_answer(error: &reqwest::Error) -> SourceError {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<super::Refused>() {
        Some(refused) => SourceError::Refused(refused.clone()),
        None => SourceError::NoAnswer(cause.to_string()),
    }
}

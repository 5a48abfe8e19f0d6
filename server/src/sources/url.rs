//! A URL that is asked again and again: items of a feed are entries, and other text is one whenever it
//! is another.

use super::{
    SourceError,
    feed_items::{Item, Seen, items},
    fetch::{Document, Fetched, Validators, Web},
    text::{Last, entry},
};
use reqwest::Url;
use std::sync::Arc;

/// A URL and what was read of it.
#[derive(Debug)]
pub(crate) struct Poller {
    url: Url,
    web: Arc<Web>,
    validators: Validators,
    seen: Seen,
    last: Last,
}

/// What an answer says.
enum Said {
    Items(Vec<Item>),
    Text(Vec<u8>),
}

impl Poller {
    /// Nothing is read yet.
    pub(crate) fn new(url: Url, web: Arc<Web>) -> Self {
        let (validators, seen, last) = Default::default();
        Self { url, web, validators, seen, last }
    }

    /// What came since.
    ///
    /// # Errors
    /// There is no answer, or none that can be used; what was read before stays known.
    pub(crate) async fn poll(&mut self) -> Result<Vec<String>, SourceError> {
        let document = match self.web.get(&self.url, &self.validators).await? {
            Fetched::NotModified => return Ok(Vec::new()),
            Fetched::Document(document) => document,
        };
        let validators = document.validators.clone();
        // A large feed takes a while to parse.
        let said = tokio::task::spawn_blocking(move || said(document)).await;
        let said = said.unwrap_or_else(|error| Err(SourceError::NoAnswer(error.to_string())))?;
        self.validators = validators;
        Ok(match said {
            Said::Items(items) => {
                self.seen.take_new(items).into_iter().map(|item| item.text).collect()
            }
            Said::Text(bytes) if self.last.is_other(&bytes) => {
                entry(&bytes, bytes.len() as u64).into_iter().collect()
            }
            Said::Text(_) => Vec::new(),
        })
    }
}

fn said(document: Document) -> Result<Said, SourceError> {
    let Document { media_type, bytes, .. } = document;
    // Feeds come under many names, plain text among them.
    if let Some(items) = items(&bytes) {
        return Ok(Said::Items(items));
    }
    let is_json = media_type == "application/json" || media_type.ends_with("+json");
    let is_text =
        media_type.starts_with("text/") && !["text/html", "text/xml"].contains(&&*media_type);
    if is_json || is_text {
        return Ok(Said::Text(bytes));
    }
    let named = if media_type.is_empty() { "of no content type".to_owned() } else { media_type };
    Err(SourceError::NoText(named))
}

#[cfg(test)]
mod tests;

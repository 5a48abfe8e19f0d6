//! A side context's source, as it is asked for and shown.

use crate::{
    ApiError, AppState,
    api::{compose::at_most, generate::out_of_range},
    limits::{
        SOURCE_COMMAND_EVERY_DEFAULT, SOURCE_COMMAND_EVERY_MIN, SOURCE_EVERY_MAX,
        SOURCE_URL_BYTES_MAX, SOURCE_URL_EVERY_DEFAULT, SOURCE_URL_EVERY_MIN,
    },
    side::Kind,
    sources::{self, Begin, Feeding, Source, SourceSpec},
};
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use std::{path::PathBuf, sync::Arc, time::Duration};
use utoipa::ToSchema;

/// What a feed or a log is fed from. One of `file`, `url`, `command` is given.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceBody {
    /// A file below a folder of `--allow-file`, by its absolute path. Each whole line that comes is an
    /// entry; blank ones are not, and one that is longer than an entry may be is cut off and says so. A
    /// file that is not there is waited for.
    pub file: Option<String>,
    /// With `file`: `end`, what comes (default); `start`, what is there already too.
    pub from: Option<String>,
    /// A URL of a host of `--allow-url`. Each new item of an RSS, Atom or JSON feed is an entry, `title
    /// — summary` (of its newest 256 items, and up to 1 KiB of each); other text and JSON is one
    /// whenever it is another.
    pub url: Option<String>,
    /// A command of `--allow-command`, by its name. What it writes is an entry whenever it is another.
    pub command: Option<String>,
    /// With `url` (at least 5; default: 300) and `command` (at least 1; default: 60): how often. After a
    /// failure it is tried half as often, and so on.
    pub every_seconds: Option<f64>,
}

/// A source, and how reading it goes.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SourceObject {
    /// The file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Where in it reading began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<&'static str>,
    /// The URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The command's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// How often it is read, while that goes well.
    pub every_seconds: f64,
    /// When it was last read without a failure, in Unix seconds.
    pub last_success: Option<u64>,
    /// Failures in a row.
    pub failures: u32,
    /// The last failure, also when it is over.
    pub last_error: Option<String>,
}

impl SourceBody {
    /// The source, where it is allowed. Blocking.
    ///
    /// # Errors
    /// 403: the operator does not allow it; 400: there is no such one, or not for that kind.
    pub(crate) fn open(self, state: &AppState, kind: &Kind) -> Result<Opened, ApiError> {
        let spec = self.spec(kind)?;
        let source = open(state, &spec)?;
        Ok((Feeding::new(spec), source))
    }

    /// The source.
    ///
    /// # Errors
    /// 400: there is no such one.
    fn spec(self, kind: &Kind) -> Result<SourceSpec, ApiError> {
        let Self { file, from, url, command, every_seconds } = self;
        if !matches!(kind, Kind::Feed | Kind::Log) {
            let message = format!("kind {} takes no source; feed and log do", kind.name());
            return Err(ApiError::bad_request("source", message).with_code("unknown_field"));
        }
        match (file, url, command) {
            (Some(path), None, None) => {
                unused("every_seconds", every_seconds.is_some(), "file")?;
                Ok(SourceSpec::File { path: PathBuf::from(path), from: begin(from.as_deref())? })
            }
            (None, Some(url), None) => {
                unused("from", from.is_some(), "url")?;
                at_most("source.url", "bytes", url.len(), SOURCE_URL_BYTES_MAX)?;
                let every = every(every_seconds, SOURCE_URL_EVERY_MIN, SOURCE_URL_EVERY_DEFAULT)?;
                Ok(SourceSpec::Url { url, every })
            }
            (None, None, Some(name)) => {
                unused("from", from.is_some(), "command")?;
                let (least, default) = (SOURCE_COMMAND_EVERY_MIN, SOURCE_COMMAND_EVERY_DEFAULT);
                Ok(SourceSpec::Command { name, every: every(every_seconds, least, default)? })
            }
            _ => {
                let message = "source: give one of `file`, `url`, `command`";
                Err(ApiError::bad_request("source", message))
            }
        }
    }
}

/// A source that is not read yet.
pub(crate) type Opened = (Feeding, Source);

/// Feeds a side context from something else from now on, or from nothing. Blocking.
///
/// # Errors
/// There is no such context, or there are as many sources as there may be.
pub(crate) fn refeed(
    state: &Arc<AppState>,
    tenant: &Arc<str>,
    id: &str,
    opened: Option<Opened>,
) -> Result<(), ApiError> {
    let feeding = opened.as_ref().map(|(feeding, _)| feeding.clone());
    let before = state.side_contexts.feed(tenant, id, feeding)?;
    let Some((feeding, source)) = opened else { return Ok(()) };
    sources::start(state, tenant, id, (feeding.spec, source), before)
}

/// What a field says that may be `null`: then, too, it is given.
pub(crate) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

fn open(state: &AppState, spec: &SourceSpec) -> Result<Source, ApiError> {
    state.sources.open(spec).map_err(|error| {
        let param = match spec {
            SourceSpec::File { .. } => "source.file",
            SourceSpec::Url { .. } => "source.url",
            SourceSpec::Command { .. } => "source.command",
        };
        if error.is_refusal() {
            let refusal = ApiError::new(StatusCode::FORBIDDEN, error.to_string());
            refusal.with_param(param).with_code("not_allowed")
        } else {
            ApiError::bad_request(param, error.to_string()).with_code("bad_source")
        }
    })
}

/// 400: a field that says nothing there.
fn unused(field: &str, is_given: bool, source: &str) -> Result<(), ApiError> {
    if !is_given {
        return Ok(());
    }
    let message = format!("source.{field} is not for a {source}");
    Err(ApiError::bad_request(format!("source.{field}"), message).with_code("unknown_field"))
}

fn begin(from: Option<&str>) -> Result<Begin, ApiError> {
    match from {
        None | Some("end") => Ok(Begin::End),
        Some("start") => Ok(Begin::Start),
        Some(other) => {
            let message = format!("source.from is {other:?}; it must be \"end\" or \"start\"");
            Err(ApiError::bad_request("source.from", message).with_code("out_of_range"))
        }
    }
}

fn every(given: Option<f64>, least: Duration, default: Duration) -> Result<Duration, ApiError> {
    let Some(given) = given else { return Ok(default) };
    let every = Duration::try_from_secs_f64(given).ok();
    every.filter(|every| (least..=SOURCE_EVERY_MAX).contains(every)).ok_or_else(|| {
        let expected = format!("from {} to {}", least.as_secs(), SOURCE_EVERY_MAX.as_secs());
        out_of_range("source.every_seconds", &given.to_string(), &expected)
    })
}

impl From<&Feeding> for SourceObject {
    fn from(feeding: &Feeding) -> Self {
        Self {
            last_success: feeding.last_success.map(|at| at.as_secs()),
            failures: feeding.failures,
            last_error: feeding.last_error.clone(),
            ..Self::from(&*feeding.spec)
        }
    }
}

/// Of what was not read yet.
impl From<&SourceSpec> for SourceObject {
    fn from(spec: &SourceSpec) -> Self {
        let (mut file, mut from, mut url, mut command) = (None, None, None, None);
        match spec {
            SourceSpec::File { path, from: begin } => {
                file = Some(path.display().to_string());
                from = Some(match begin {
                    Begin::Start => "start",
                    Begin::End => "end",
                });
            }
            SourceSpec::Url { url: asked, .. } => url = Some(asked.clone()),
            SourceSpec::Command { name, .. } => command = Some(name.clone()),
        }
        Self {
            file,
            from,
            url,
            command,
            every_seconds: spec.every().as_secs_f64(),
            last_success: None,
            failures: 0,
            last_error: None,
        }
    }
}

#[cfg(test)]
mod tests;

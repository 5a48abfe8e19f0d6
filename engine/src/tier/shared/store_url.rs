//! Where a shared store is: `s3://BUCKET/PREFIX` or `file:///FOLDER`.

use super::SharedError;
use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    local::LocalFileSystem,
    path::Path,
};
use std::{
    fmt::{self, Display, Formatter},
    fs,
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::Duration,
};
use url::Url;

/// The place of a shared store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// A bucket of S3, or of a server that speaks its protocol. Where it is, and who may use it, is
    /// in the environment, under the names that all programs use: `AWS_ENDPOINT_URL`,
    /// `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and others.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// Before every object's name; may be empty.
        prefix: String,
    },
    /// A folder that several servers see.
    Folder(PathBuf),
}

/// Why a text is no [`StoreUrl`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UrlError {
    /// Not of the form of a URL.
    #[error("not a URL ({0}); expected {FORMS}")]
    Malformed(#[from] url::ParseError),
    /// Another protocol.
    #[error("{0}:// is not supported; expected {FORMS}")]
    Scheme(String),
    /// A bucket has no name.
    #[error("a bucket is missing; expected {FORMS}")]
    NoBucket,
    /// Something that no store has.
    #[error("it must not have {0}; expected {FORMS}")]
    TooMuch(&'static str),
    /// A path that no store has.
    #[error("its path cannot be used ({0}); expected {FORMS}")]
    Path(String),
}

impl FromStr for StoreUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let url = Url::parse(text)?;
        if !["s3", "file"].contains(&url.scheme()) {
            return Err(UrlError::Scheme(url.scheme().to_owned()));
        }
        let has_user = !url.username().is_empty() || url.password().is_some();
        for (is_there, what) in [
            (has_user, "a user or a password"),
            (url.port().is_some(), "a port"),
            (url.query().is_some(), "a query"),
            (url.fragment().is_some(), "a #"),
        ] {
            if is_there {
                return Err(UrlError::TooMuch(what));
            }
        }
        if url.scheme() == "file" {
            let path = url.to_file_path();
            return path
                .map(Self::Folder)
                .map_err(|()| UrlError::Path("not of this machine".into()));
        }
        let bucket = url.host_str().filter(|name| !name.is_empty()).ok_or(UrlError::NoBucket)?;
        let prefix = Path::from_url_path(url.path());
        let prefix = prefix.map_err(|error| UrlError::Path(error.to_string()))?;
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_string() })
    }
}

impl Display for StoreUrl {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Folder(folder) => write!(f, "file://{}", folder.display()),
        }
    }
}

impl StoreUrl {
    /// Refuses settings that [`Shared::open`](super::Shared::open) would refuse. Asks nothing of a
    /// network. Blocking.
    ///
    /// # Errors
    /// As [`Shared::open`](super::Shared::open).
    pub fn check(&self) -> Result<(), SharedError> {
        self.open().map(drop)
    }

    /// A client, and what stands before every object's name. Makes a folder that is missing; asks
    /// nothing of a network.
    pub(crate) fn open(&self) -> Result<(Arc<dyn ObjectStore>, Path), SharedError> {
        let unusable = |source| SharedError::Settings { url: self.clone(), source };
        match self {
            Self::S3 { bucket, prefix } => {
                let builder = s3_from_environment().with_bucket_name(bucket);
                let store = builder.build().map_err(unusable)?;
                Ok((Arc::new(store), Path::from(prefix.as_str())))
            }
            Self::Folder(path) => {
                let unmade = |source| SharedError::Folder { path: path.clone(), source };
                fs::create_dir_all(path).map_err(unmade)?;
                let store = LocalFileSystem::new_with_prefix(path).map_err(unusable)?;
                Ok((Arc::new(store.with_fsync(true)), Path::default()))
            }
        }
    }
}

/// A client with the settings in the environment, that does not wait for long.
fn s3_from_environment() -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::from_env()
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), CONNECT_TIME_MAX)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), REQUEST_TIME_MAX)
        .with_retry(RetryConfig {
            backoff: BackoffConfig { max_backoff: Duration::from_secs(1), ..Default::default() },
            max_retries: 2,
            retry_timeout: Duration::from_secs(8),
        })
        // Not all servers delete several objects at once.
        .with_disable_bulk_delete(true);
    let endpoints = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
    let endpoint = endpoints.iter().find_map(|key| builder.get_config_value(key));
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    builder
}

/// What works.
const FORMS: &str = "s3://BUCKET/PREFIX or file:///FOLDER";
/// A store that is there answers sooner.
const CONNECT_TIME_MAX: &str = "2s";
/// The longest of all limits: each kind of request has a shorter one.
const REQUEST_TIME_MAX: &str = "60s";

#[cfg(test)]
mod tests;

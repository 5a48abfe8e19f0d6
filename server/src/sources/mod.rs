//! Sources: what feeds and logs are fed from besides pushes. A file that is followed, a URL that is
//! asked, a command that is run: each only where the operator allows it, none by default.
//!
//! A source is read again and again by a task of its own (`feeding.rs`), and what it reads becomes
//! entries by the same way as what clients push. Nothing here touches the engine. What may be read is
//! decided in three places: `folders.rs`, `guard.rs`, and the list of commands in [`Allowed`].

mod command;
mod feed_items;
mod feeding;
mod fetch;
mod file;
mod folders;
mod guard;
mod text;
mod url;

pub use command::CommandLine;
pub use feeding::Feeding;
pub(crate) use feeding::start;
pub use file::Begin;
pub use folders::Folders;
pub use guard::{Host, Hosts, Refused, is_public};

use crate::limits::{SOURCE_FILE_INTERVAL, SOURCE_OUTPUT_BYTES_MAX, SOURCE_RESPONSE_BYTES_MAX};
use command::Repeated;
use fetch::Web;
use file::Tail;
use reqwest::Url;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use url::Poller;

/// What the operator allows. Nothing, unless told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Folders whose files may be followed.
    pub folders: Folders,
    /// Hosts that may be asked.
    pub hosts: Hosts,
    /// Commands that may be run, by name.
    pub commands: BTreeMap<String, CommandLine>,
}

/// What a side context is to be fed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSpec {
    /// A file: each line is an entry.
    File {
        /// Its path, absolute.
        path: PathBuf,
        /// Where to begin.
        from: Begin,
    },
    /// A URL: each item of a feed is an entry, and other text whenever it is another.
    Url {
        /// Asked with GET.
        url: String,
        /// How often.
        every: Duration,
    },
    /// A command: what it writes is an entry whenever it is another.
    Command {
        /// By which the operator allows it.
        name: String,
        /// How long after one run the next begins.
        every: Duration,
    },
}

impl SourceSpec {
    /// Time between two readings.
    pub(crate) fn every(&self) -> Duration {
        match self {
            Self::File { .. } => SOURCE_FILE_INTERVAL,
            Self::Url { every, .. } | Self::Command { every, .. } => *every,
        }
    }
}

/// Why a source gives nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// A path that depends on where the server runs.
    #[error("{0} is not an absolute path")]
    RelativePath(PathBuf),
    /// A file below no allowed folder. With `true`, some are allowed.
    #[error(
        "{} may not be read: it lies {} (with links resolved); `cento serve --allow-file FOLDER` \
         would allow what is below it",
        .0.display(),
        if *.1 { "below no allowed folder" } else { "in a folder, and none is allowed" }
    )]
    PathNotAllowed(PathBuf, bool),
    /// A file that cannot be read.
    #[error("{} cannot be read: {}", .0.display(), .1)]
    File(PathBuf, String),
    /// No URL.
    #[error("{0:?} is no URL: {1}")]
    Url(String, String),
    /// A host that may not be asked, or a URL of another kind.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A command that is not allowed.
    #[error(
        "no command {0:?} is allowed{1}; `cento serve --allow-command '{0}=PROGRAM ARGUMENTS'` would \
         allow one"
    )]
    CommandNotAllowed(String, String),
    /// No answer, for a reason.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// An answer that says no.
    #[error("the answer was {0}")]
    Status(String),
    /// Too many steps.
    #[error("redirected more than {0} times")]
    Redirects(usize),
    /// An answer over the bound.
    #[error("the answer has more than {SOURCE_RESPONSE_BYTES_MAX} bytes")]
    TooLarge,
    /// An answer that nothing can be made of.
    #[error("the answer ({0}) is neither a feed, nor text, nor JSON")]
    NoText(String),
    /// It took too long.
    #[error("it took longer than {} seconds", .0.as_secs_f64())]
    Slow(Duration),
    /// A command that cannot be run.
    #[error("{0} cannot be run: {1}")]
    Spawn(String, String),
    /// A command that failed.
    #[error("it ended with {0}{1}")]
    Ended(String, String),
    /// A command that does not stop writing.
    #[error("it wrote more than {SOURCE_OUTPUT_BYTES_MAX} bytes")]
    Output,
    /// An entry that the context does not take.
    #[error("{0}")]
    Entry(String),
}

impl SourceError {
    /// It is the operator's to allow.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::PathNotAllowed(..)
                | Self::CommandNotAllowed(..)
                | Self::Refused(Refused::NotListed(_) | Refused::NotPublic { .. })
        )
    }
}

/// Makes sources, where they are allowed.
#[derive(Debug)]
pub struct Sources {
    folders: Arc<Folders>,
    commands: BTreeMap<String, CommandLine>,
    web: Arc<Web>,
}

impl Sources {
    /// Those allowed.
    pub fn new(allowed: Allowed) -> Self {
        let Allowed { folders, hosts, commands } = allowed;
        Self { folders: Arc::new(folders), commands, web: Arc::new(Web::new(hosts)) }
    }

    /// A source, from its beginning. Blocking.
    ///
    /// # Errors
    /// It is not allowed, or there is no such URL.
    pub(crate) fn open(&self, spec: &SourceSpec) -> Result<Source, SourceError> {
        match spec {
            SourceSpec::File { path, from } => {
                self.folders.check(path)?;
                let tail = Tail::new(path.clone(), *from, Arc::clone(&self.folders));
                Ok(Source::File(Arc::new(Mutex::new(tail))))
            }
            SourceSpec::Url { url, .. } => {
                let wrong = |error: &dyn std::error::Error| {
                    SourceError::Url(url.clone(), error.to_string())
                };
                let url = Url::parse(url).map_err(|error| wrong(&error))?;
                self.web.check(&url)?;
                Ok(Source::Url(Poller::new(url, Arc::clone(&self.web))))
            }
            SourceSpec::Command { name, .. } => {
                let line = self.commands.get(name).cloned();
                Ok(Source::Command(Repeated::new(line.ok_or_else(|| self.unknown(name))?)))
            }
        }
    }

    fn unknown(&self, name: &str) -> SourceError {
        let known: Vec<_> = self.commands.keys().map(String::as_str).collect();
        let known = if known.is_empty() {
            String::new()
        } else {
            format!(" (those allowed: {})", known.join(", "))
        };
        SourceError::CommandNotAllowed(name.to_owned(), known)
    }
}

/// A source and how far it was read.
#[derive(Debug)]
pub(crate) enum Source {
    /// Read on threads that may block.
    File(Arc<Mutex<Tail>>),
    Url(Poller),
    Command(Repeated),
}

impl Source {
    /// Texts of the entries that came since the last time.
    pub(crate) async fn poll(&mut self) -> Result<Vec<String>, SourceError> {
        match self {
            Self::File(tail) => {
                let tail = Arc::clone(tail);
                // A panic half-way leaves a place in a file: lines may come twice or not at all.
                let poll = move || tail.lock().unwrap_or_else(PoisonError::into_inner).poll();
                let read = tokio::task::spawn_blocking(poll).await;
                read.unwrap_or_else(|error| Err(SourceError::Entry(error.to_string())))
            }
            Self::Url(poller) => poller.poll().await,
            Self::Command(repeated) => repeated.poll().await,
        }
    }
}

//! The file in which names outlive the process: all of them, as one JSON object, written aside, synced
//! and renamed.

use super::{FragmentName, Key};
use crate::limits::{FRAGMENT_NAMES_BYTES_MAX, FRAGMENT_NAMES_MAX, NAME_BYTES_MAX};
use anyhow::{Context as _, anyhow, ensure};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

/// Where the names are, and whether writing them fails.
#[derive(Debug)]
pub(super) struct NamesFile {
    path: PathBuf,
    /// The latest write failed: the next failure is no news.
    has_failed: bool,
}

/// The whole file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: Cow<'static, str>,
    /// The oldest first.
    fragments: Vec<Named>,
}

/// What is remembered of one fragment.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    tenant: String,
    id: String,
    name: Option<String>,
    /// Unix seconds.
    created: u64,
}

impl From<(&Key, &FragmentName)> for Named {
    fn from(((tenant, id), named): (&Key, &FragmentName)) -> Self {
        let FragmentName { name, created } = named.clone();
        Self { tenant: tenant.to_string(), id: id.to_string(), name, created }
    }
}

impl Named {
    fn check(self) -> anyhow::Result<(Key, FragmentName)> {
        let Self { tenant, id, name, created } = self;
        let length = name.as_ref().map_or(0, String::len);
        ensure!(
            length <= NAME_BYTES_MAX,
            "the name of {id} has {length} bytes; the limit is {NAME_BYTES_MAX}"
        );
        let id = id.parse().map_err(|()| anyhow!("{id:?} is no id of a fragment"))?;
        Ok(((tenant.into(), id), FragmentName { name, created }))
    }
}

impl NamesFile {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { path: folder.join(NAME), has_failed: false }
    }

    /// What is in the file; nothing where there is none, or none that makes sense.
    pub(super) fn read_or_set_aside(&self) -> Vec<(Key, FragmentName)> {
        match self.read() {
            Ok(names) => names,
            Err(error) => {
                let aside = beside(&self.path, ".bad");
                let path = self.path.display();
                tracing::warn!("names of fragments: {path} is set aside: {error:#}");
                if let Err(error) = fs::rename(&self.path, aside) {
                    tracing::warn!("names of fragments: cannot set aside {path}: {error}");
                }
                Vec::new()
            }
        }
    }

    fn read(&self) -> anyhow::Result<Vec<(Key, FragmentName)>> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?,
        };
        let (limit, mut text) = (FRAGMENT_NAMES_BYTES_MAX, Vec::new());
        file.take(limit + 1).read_to_end(&mut text)?;
        ensure!(text.len() as u64 <= limit, "it has more than {limit} bytes, which is the limit");
        let Content { format, fragments } =
            serde_json::from_slice(&text).context("it is not JSON of the right form")?;
        ensure!(format == FORMAT, "its format is {format:?}; it must be {FORMAT:?}");
        let given = fragments.len();
        ensure!(
            given <= FRAGMENT_NAMES_MAX,
            "it has {given} fragments; the limit is {FRAGMENT_NAMES_MAX}"
        );
        fragments.into_iter().map(Named::check).collect()
    }

    /// Puts these in the place of what is there. `false`: they could not be written.
    pub(super) fn write(&mut self, fragments: Vec<Named>) -> bool {
        let content = Content { format: FORMAT.into(), fragments };
        let written = serde_json::to_vec(&content)
            .map_err(io::Error::from)
            .and_then(|text| write_durably(&self.path, &text));
        match &written {
            Err(error) if !self.has_failed => {
                let path = self.path.display();
                tracing::warn!("names of fragments: cannot write {path}: {error}");
            }
            _ => {}
        }
        self.has_failed = written.is_err();
        written.is_ok()
    }
}

/// Writes a file so that after a crash it is the old one or the new one, never half of it.
fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    // What a crash leaves of it is deleted with the disk tier's own.
    let aside = beside(path, ".tmp-0");
    let mut file = File::create(&aside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    let folder = path.parent().expect("the file lies in a folder");
    // Elsewhere a folder cannot be opened as a file, and names need no syncing.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The file's name, in the folder of a model's KV.
pub(super) const NAME: &str = "fragment-names.json";
const FORMAT: &str = "cento fragment names 1";

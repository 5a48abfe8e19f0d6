//! Files of data sets: opened by name in a folder, plain or gzipped, and read so that what is wrong
//! with them is told by file and line.

mod csv;

use anyhow::{Context as _, anyhow, bail};
use serde::de::DeserializeOwned;
use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

/// Bytes a file may unpack to: a small archive can hold more than the memory.
const UNPACKED_MAX: u64 = 256 << 20;

/// A file's text.
#[derive(Debug)]
pub(crate) struct DataFile {
    path: PathBuf,
    text: String,
}

impl DataFile {
    /// `name` in `folder`, or `name.gz`.
    pub(crate) fn open(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let plain = folder.join(name);
        let packed = folder.join(format!("{name}.gz"));
        let Some(path) = [&plain, &packed].into_iter().find(|path| path.is_file()) else {
            let (plain, packed) = (plain.display(), packed.display());
            bail!("this task reads {name}: neither {plain} nor {packed} is there");
        };
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let mut bytes = Vec::new();
        let read = if path == &packed {
            flate2::read::GzDecoder::new(file).take(UNPACKED_MAX + 1).read_to_end(&mut bytes)
        } else {
            file.take(UNPACKED_MAX + 1).read_to_end(&mut bytes)
        };
        let read = read.with_context(|| format!("reading {}", path.display()))?;
        if read as u64 > UNPACKED_MAX {
            bail!("{} holds more than {UNPACKED_MAX} bytes, the limit", path.display());
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid =
                String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
            let line = valid.matches('\n').count() + 1;
            anyhow!("{} line {line}: bytes that are no UTF-8", path.display())
        })?;
        Ok(Self { path: path.clone(), text })
    }

    /// The whole file as one JSON value.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_str(&self.text).map_err(|error| self.wrong(error.line(), &error))
    }

    /// One JSON value a line; blank lines are skipped.
    pub(crate) fn json_lines<T: DeserializeOwned>(&self) -> anyhow::Result<Vec<T>> {
        let lines = self.text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines
            .map(|(at, line)| {
                serde_json::from_str(line).map_err(|error| self.wrong(at + 1, &error))
            })
            .collect()
    }

    /// Records of comma-separated fields below a header that must be `header`, each with its line.
    pub(crate) fn csv<const N: usize>(
        &self,
        header: [&str; N],
    ) -> anyhow::Result<Vec<[String; N]>> {
        let wrong = |(line, what): (usize, String)| self.wrong(line, &what);
        let mut records = csv::records(&self.text).map_err(wrong)?.into_iter();
        match records.next() {
            Some((_, fields)) if fields == header => {}
            found => {
                let found = found.map(|(_, fields)| fields.join(",")).unwrap_or_default();
                let what = format!("the header is {found:?}, not {:?}", header.join(","));
                return Err(self.wrong(1, &what));
            }
        }
        records
            .map(|(line, fields)| {
                let count = fields.len();
                fields
                    .try_into()
                    .map_err(|_| self.wrong(line, &format!("{count} fields; the header has {N}")))
            })
            .collect()
    }

    fn wrong(&self, line: usize, what: &dyn std::fmt::Display) -> anyhow::Error {
        anyhow!("{} line {line}: {what}", self.path.display())
    }
}

#[cfg(test)]
mod tests;

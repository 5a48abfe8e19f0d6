//! What a run ends in: a record of every part, measured one by one and on from where it was stopped,
//! in a file that is whole or not there.

use crate::{
    journal::{self, Journal},
    progress::Progress,
};
use anyhow::{Context as _, bail, ensure};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt::Display, fs, path::Path};

/// The record of a whole run.
pub(crate) trait Outcome: Serialize + DeserializeOwned {
    /// All that decides the numbers; the header of the journal.
    type Identity: Serialize + DeserializeOwned;
    /// One part's numbers; a line of the journal.
    type Part: Serialize + DeserializeOwned;

    /// Of all parts' numbers.
    ///
    /// # Errors
    /// They tell nothing.
    fn of_parts(identity: Self::Identity, parts: Vec<Self::Part>) -> anyhow::Result<Self>;

    fn identity(&self) -> &Self::Identity;

    /// Refuses another format, and what is not whole.
    fn check(&self, shown: &dyn Display) -> anyhow::Result<()>;

    fn id(part: &Self::Part) -> &str;

    /// A part in a line.
    fn line(identity: &Self::Identity, part: &Self::Part) -> String;

    fn load(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("reading {shown}"))?;
        let record: Self = serde_json::from_str(&text)
            .with_context(|| format!("{shown} is no result of this version"))?;
        record.check(&shown)?;
        Ok(record)
    }
}

/// Refuses a path at which no record can be written, before anything is measured for it.
pub(crate) fn check_folder(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let missing = folder.filter(|folder| !folder.is_dir());
    missing.map_or(Ok(()), |folder| bail!("--json: there is no folder {}", folder.display()))
}

/// The record at `path`: as it is there, or measured from where its journal ends. Parts have ids;
/// `measure` is given the place of one.
pub(crate) fn measured<R: Outcome>(
    identity: R::Identity,
    ids: &[String],
    path: &Path,
    mut measure: impl FnMut(usize) -> anyhow::Result<R::Part>,
) -> anyhow::Result<R> {
    let shown = path.display();
    if path.exists() {
        let record = R::load(path)?;
        if let Some(difference) = difference(&identity, record.identity()) {
            bail!("{shown} is of another run: {difference}; remove it or name another --json");
        }
        eprintln!("{shown} is complete already");
        return Ok(record);
    }
    let mut journal = Journal::<R::Part>::open(path, &identity)?;
    let done = journal.done.len();
    let agrees = journal.done.iter().zip(ids).all(|(done, id)| R::id(done) == id);
    ensure!(
        agrees && done <= ids.len(),
        "{} holds other items than this run makes",
        journal::path(path).display()
    );
    let progress = Progress::start(done, ids.len());
    for at in done..ids.len() {
        let part = measure(at)?;
        let line = R::line(&identity, &part);
        journal.add(part)?;
        progress.tell(at + 1, &line);
    }
    let record = R::of_parts(identity, std::mem::take(&mut journal.done))?;
    save(&record, path)?;
    journal.remove().context("the result is written, its journal is left")?;
    Ok(record)
}

/// The first field in which another run differs, with both values.
pub(crate) fn difference<H: Serialize>(own: &H, other: &H) -> Option<String> {
    let fields = |header: &H| match serde_json::to_value(header) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => unreachable!("a run's header is an object"),
    };
    let (own, others) = (fields(own), fields(other));
    let differs = own.iter().find(|(name, value)| others.get(*name) != Some(value));
    differs.map(|(name, value)| format!("{name} is {} there and {value} here", others[name]))
}

/// Written aside and renamed: a file of this name is always whole.
pub(crate) fn save(record: &impl Serialize, path: &Path) -> anyhow::Result<()> {
    let aside = path.with_added_extension("writing");
    let text = serde_json::to_string(record)?;
    fs::write(&aside, text + "\n").with_context(|| format!("writing {}", aside.display()))?;
    fs::rename(&aside, path).with_context(|| format!("writing {}", path.display()))
}

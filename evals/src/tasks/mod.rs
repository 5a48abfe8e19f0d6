//! The registry of tasks. Each makes its items from a seed, alone or over files in a folder.
//!
//! One family, one file; its opening comment says what would fool it.

mod ask;
mod banking;
mod gsm8k;
mod hotpot;
mod key_value;
mod message;
mod musique;
mod needle;
mod nq;
mod order;
mod ruler;
mod shots;
mod superseded;
mod tracking;
mod updates;
pub(crate) mod words;
mod xquad;

use crate::{chance::Chance, data::DataFile, item::Item, metrics::text::normalised};
use anyhow::{bail, ensure};
use std::path::PathBuf;

/// One task.
pub(crate) struct Task {
    pub(crate) name: &'static str,
    /// What it asks, in a line.
    pub(crate) about: &'static str,
    /// Fragments of an item: default, least and most. None: the task's own material says how many.
    pub(crate) fragments: Option<[usize; 3]>,
    /// Files it reads; none: it is made from the seed alone.
    pub(crate) files: &'static [&'static str],
    make: fn(&Making) -> anyhow::Result<Vec<Item>>,
}

/// Every task.
pub(crate) const TASKS: &[Task] = &[
    needle::NEEDLE,
    needle::MULTI_NEEDLE,
    tracking::TRACKING,
    key_value::KEY_VALUE,
    order::ORDER,
    superseded::SUPERSEDED,
    shots::SHOTS,
    message::MESSAGE,
    hotpot::HOTPOT,
    musique::MUSIQUE,
    nq::NQ,
    key_value::KV_75,
    key_value::KV_140,
    ruler::RULER,
    xquad::XQUAD,
    banking::BANKING,
    gsm8k::GSM8K,
    updates::UPDATES,
];

/// What items are made of.
#[derive(Clone, Debug)]
pub(crate) struct Making {
    pub(crate) seed: u64,
    /// Questions; a task that puts each under several conditions makes more items.
    pub(crate) n: usize,
    /// Fragments of an item; 0 where the task's material says how many.
    pub(crate) fragments: usize,
    /// Where files are.
    pub(crate) data: Option<PathBuf>,
}

impl Task {
    /// By its name.
    pub(crate) fn named(name: &str) -> anyhow::Result<&'static Self> {
        let Some(task) = TASKS.iter().find(|task| task.name == name) else {
            let names: Vec<_> = TASKS.iter().map(|task| task.name).collect();
            bail!("no task {name:?}; there are: {}", names.join(", "))
        };
        Ok(task)
    }

    /// Items of `n` questions. `fragments`: how many of an item, where it is asked for.
    pub(crate) fn items(
        &self,
        seed: u64,
        n: usize,
        fragments: Option<usize>,
        data: Option<PathBuf>,
    ) -> anyhow::Result<Vec<Item>> {
        ensure!(n > 0, "--n is 0; it must be at least 1");
        let name = self.name;
        let fragments = match (self.fragments, fragments) {
            (None, Some(given)) => {
                bail!("--fragments is {given}, but task {name} has as many as its material says")
            }
            (None, None) => 0,
            (Some([default, _, _]), None) => default,
            (Some([_, least, most]), Some(given)) => {
                let is_inside = (least..=most).contains(&given);
                ensure!(
                    is_inside,
                    "--fragments is {given}; for task {name} it must be {least} to {most}"
                );
                given
            }
        };
        let items = (self.make)(&Making { seed, n, fragments, data })?;
        assert!(!items.is_empty(), "{name} makes an item of every question");
        Ok(items)
    }
}

/// Names, what each asks, and what it needs.
pub(crate) fn list() -> String {
    let line = |task: &Task| {
        let needs = match task.files {
            [] => "made from the seed".to_owned(),
            files => format!("reads {}", files.join(", ")),
        };
        let fragments = task.fragments.map_or(String::new(), |[default, least, most]| {
            format!("; --fragments {least} to {most}, default {default}")
        });
        format!("{:15} {} ({needs}{fragments})", task.name, task.about)
    };
    TASKS.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl Making {
    fn chance(&self, purpose: &str) -> Chance {
        Chance::new(self.seed, purpose)
    }

    fn open(&self, name: &str) -> anyhow::Result<DataFile> {
        match &self.data {
            Some(folder) => DataFile::open(folder, name),
            None => bail!("this task reads {name}: name its folder by --data DIR"),
        }
    }

    /// `n` of `records`, in an order that the seed says, each with its place in the file.
    fn draw<'a, T>(&self, records: &'a [T]) -> anyhow::Result<Vec<(usize, &'a T)>> {
        let (n, most) = (self.n, records.len());
        ensure!(n <= most, "--n is {n}; the file has {most} questions");
        let places = self.chance("questions").distinct(n, most);
        Ok(places.into_iter().map(|place| (place, &records[place])).collect())
    }
}

/// An answer has words: an empty one would be right always.
fn check_answer(of: &str, answer: &str) -> Result<(), String> {
    let is_empty = normalised(answer).is_empty();
    if is_empty { Err(format!("{of}: an answer without words: {answer:?}")) } else { Ok(()) }
}

/// There is an answer, and each has words.
fn check_answers(of: &str, answers: &[String]) -> Result<(), String> {
    if answers.is_empty() {
        return Err(format!("{of} without answers"));
    }
    answers.iter().try_for_each(|answer| check_answer(of, answer))
}

/// Which third of `count` places `place` lies in: the groups of a sweep over places.
fn third(place: usize, count: usize) -> String {
    let thirds = ["1st third", "2nd third", "3rd third"];
    thirds[(place * 3 / count.max(1)).min(2)].to_owned()
}

#[cfg(test)]
mod tests;

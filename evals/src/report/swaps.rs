//! Tables of what models say behind swaps of a side context.

use super::table::{estimate, number, table};
use crate::{
    metrics::{bootstrap::Estimate, distribution::mean},
    swaps::{Numbers, Record, Said},
};

/// A column: its title, and its value of an arm behind a change.
type Column = (&'static str, fn(&Numbers) -> f64);

const COLUMNS: [Column; 5] = [
    ("new", |n| f64::from(n.said == Said::New)),
    ("old", |n| f64::from(n.said == Said::Old)),
    ("other", |n| f64::from(n.said == Said::Other)),
    ("NLL", |n| n.nll),
    ("KL", |n| n.kl),
];
/// Columns of which differences are told.
const COMPARED: [Column; 2] = [COLUMNS[0], COLUMNS[3]];

/// All results, where there are any.
pub(super) fn section(records: &[Record]) -> String {
    if records.is_empty() {
        return String::new();
    }
    let result = |record: &Record| {
        let Record { identity, .. } = record;
        format!("\n### {}, seed {}\n\n{}", identity.model.name, identity.seed, tables(record))
    };
    INTRODUCTION.to_owned() + &records.iter().map(result).collect::<String>()
}

/// One result's tables.
pub(super) fn tables(record: &Record) -> String {
    let tables = record.identity.tasks.iter().map(|task| {
        let of = OfTask { record, task };
        format!("\n{}\n{}\n{}", of.arms(), of.by_change(), of.comparisons())
    });
    heading(record) + "\n" + &tables.collect::<String>()
}

fn heading(record: &Record) -> String {
    let identity = &record.identity;
    let model = &identity.model;
    format!(
        "{} stories of each task, {} changes in each; model {}, fingerprint {}; commit {}; {}, {}, {} \
         threads.",
        identity.n,
        identity.swaps,
        model.name,
        model.fingerprint.get(..16).unwrap_or(&model.fingerprint),
        identity.provenance.commit,
        identity.provenance.cpu,
        model.isa.as_deref().unwrap_or("?"),
        model.threads.unwrap_or(0),
    )
}

/// One task of a result.
struct OfTask<'a> {
    record: &'a Record,
    task: &'a str,
}

impl OfTask<'_> {
    fn arms(&self) -> String {
        let mut heading = vec![self.task.to_owned()];
        heading.extend(COLUMNS.map(|(title, _)| title.to_owned()));
        heading.extend(["tokens a change", "swaps"].map(ToOwned::to_owned));
        let row = |(place, arm): (usize, &String)| {
            let mut row = vec![format!("`{arm}`")];
            row.extend(COLUMNS.map(|column| self.cell(&self.values(column, place, None))));
            row.push(number(self.mean(place, |n| n.tokens as f64)));
            // Of a story: the last change has all swaps before it.
            row.push(number(self.mean_of_last(place)));
            row
        };
        table(&heading, &self.record.identity.arms.iter().enumerate().map(row).collect::<Vec<_>>())
    }

    /// How often the new value is said behind each change.
    fn by_change(&self) -> String {
        let changes = self.record.identity.swaps;
        let mut heading = vec![format!("{}: new, by change", self.task)];
        heading.extend((1..=changes).map(|change| format!("change {change}")));
        let row = |(place, arm): (usize, &String)| {
            let mut row = vec![format!("`{arm}`")];
            row.extend((0..changes).map(|at| self.cell(&self.values(COLUMNS[0], place, Some(at)))));
            row
        };
        table(&heading, &self.record.identity.arms.iter().enumerate().map(row).collect::<Vec<_>>())
    }

    /// Arms beside each other on the same stories and changes.
    fn comparisons(&self) -> String {
        let mut heading = vec![format!("{}: one less the other", self.task)];
        heading.extend(COMPARED.map(|(title, _)| title.to_owned()));
        let arms = &self.record.identity.arms;
        let place = |name: &str| arms.iter().position(|arm| arm == name);
        let mut rows = Vec::new();
        for (one, arm) in arms.iter().enumerate() {
            for name in compared_with(arm) {
                let Some(other) = place(&name) else { continue };
                let mut row = vec![format!("`{arm}` less `{name}`")];
                row.extend(COMPARED.map(|column| {
                    let (a, b) = (self.values(column, one, None), self.values(column, other, None));
                    self.cell(&a.iter().zip(&b).map(|(a, b)| (a.0, a.1 - b.1)).collect::<Vec<_>>())
                }));
                rows.push(row);
            }
        }
        table(&heading, &rows)
    }

    /// An arm's values, each with its story; of one change, or of all.
    fn values(&self, column: Column, place: usize, change: Option<usize>) -> Vec<(usize, f64)> {
        let stories = self.record.stories.iter().filter(|story| story.task == self.task);
        let values = stories.flat_map(|story| {
            let changes = story.arms[place].iter().enumerate();
            let changes = changes.filter(move |(at, _)| change.is_none_or(|change| change == *at));
            changes.map(move |(_, numbers)| (story.question, (column.1)(numbers)))
        });
        values.collect()
    }

    fn mean(&self, place: usize, of: fn(&Numbers) -> f64) -> f64 {
        let values = self.values(("", of), place, None);
        mean(&values.iter().map(|value| value.1).collect::<Vec<_>>())
    }

    fn mean_of_last(&self, place: usize) -> f64 {
        let last = self.record.identity.swaps - 1;
        let values = self.values(("", |n| n.swaps as f64), place, Some(last));
        mean(&values.iter().map(|value| value.1).collect::<Vec<_>>())
    }

    fn cell(&self, values: &[(usize, f64)]) -> String {
        let found = Estimate::of(values, self.record.identity.seed);
        found.as_ref().map_or(String::new(), estimate)
    }
}

/// Names of the arms that an arm is compared with: without its doorbell, else placed first instead
/// of last; and a swap with what it spares, and with nothing.
fn compared_with(arm: &str) -> Vec<String> {
    let mut others = Vec::new();
    if let Some(silent) = arm.strip_suffix(", doorbell") {
        others.push(silent.to_owned());
    }
    if arm.contains(", last") {
        others.push(arm.replace(", last", ", first"));
    }
    if arm.contains(" swap, ") {
        let (policy, rest) = arm.split_once(" swap, ").expect("it is there");
        others.push(format!("recompute, {rest}"));
        others.extend(["again", "stale"].map(|way| format!("{policy} {way}, {rest}")));
    }
    if let Some((_, rest)) = arm.split_once(" again, ") {
        others.push(format!("recompute, {rest}"));
    }
    others
}

const INTRODUCTION: &str = "
## Swaps: is it noticed that a side context changed?

Made by `cargo run --release -p evals -- swaps`. A side context (a clock, a feed of messages) stands among four passages of
filler. While the answer is written it changes, each time behind a line that was right until then, and the next line is to say the new value.
Lines before it are put in the model's mouth, so that each change is judged by itself.

- `recompute alone`: the newest version and its line alone, as one text: whether the model can read it at all. `recompute`: the same with
  the answer so far, whose older lines look wrong there, because the versions that they were about are gone.
- `reuse again`: the answer so far is computed again behind the newest version's fragment. `reuse swap`: the newest version
  takes the old one's place, and what was said so far stays as it was computed, over the old one. `reuse stale`: nothing changes.
- `last`, `first`: the side context stands behind the passages, or before them. `doorbell`: a line in the answer says that
  there was a change, and not what it is.
- **new**, **old**, **other**: share of changes behind which the greedy line says the new value, one from before, or neither. **NLL**:
  negative log-likelihood of the new value, nats a token; **KL**: KL(recompute ‖ arm) over it, `recompute` of the same text.
- **tokens a change**: tokens computed because of it (new pieces, doorbell, and what is computed again). **swaps**: made in a story.

Intervals are of 95 %, by the bootstrap over stories. How to read it: `swap` less `stale` says whether a change is noticed at all, `swap`
less `again` what it does that lines said so far were computed over older versions, and `again` less `recompute` is the join's price.
`swap` can be above `recompute`: as plain text, older lines contradict the newest version, and a model may go on from them instead of
reading it; behind a swap their rows are those of lines that were right. The doorbell is worth a line where it lifts `swap` by more than `recompute`.
";

#[cfg(test)]
mod tests {
    use super::compared_with;
    use crate::swaps::arms::Arm;
    use engine::JoinPolicy;

    #[test]
    fn arms_are_compared_with_arms() {
        let policies = [JoinPolicy::Reuse, JoinPolicy::Parallel { temperature: 0.9, scale: 1.0 }];
        let arms: Vec<_> = Arm::all(&policies).iter().map(ToString::to_string).collect();
        for arm in &arms {
            for other in compared_with(arm) {
                let is_left_out = other.contains("doorbell") && !other.contains("swap");
                assert!(arms.contains(&other) || is_left_out, "{arm}: {other}");
            }
        }
        assert_eq!(
            compared_with("reuse swap, last, doorbell"),
            [
                "reuse swap, last",
                "reuse swap, first, doorbell",
                "recompute, last, doorbell",
                "reuse again, last, doorbell",
                "reuse stale, last, doorbell"
            ]
        );
    }
}

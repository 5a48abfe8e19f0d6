//! The page: how to read it, then each model's results.

use super::{
    Results,
    plots::Drawn,
    swaps,
    table::{estimate, number, table},
};
use crate::{
    metrics::METRICS,
    record::Record,
    summary::{ArmSummary, Group},
};
use std::fmt::Write as _;

/// Metrics of the first table, and of the second.
const ANSWERS: &[&str] =
    &["f1", "em", "sub_em", "rouge_l", "refused", "same_answer", "same_tokens"];
const DISTRIBUTIONS: &[&str] = &["share_recomputed", "nll", "kl_first", "kl", "top1_first", "top1"];
/// Metrics told by group.
const BY_GROUP: &[&str] = &["f1", "sub_em", "kl_first"];

/// The whole page.
pub(super) fn page(results: &Results, plots: &[Drawn]) -> String {
    let mut page = INTRODUCTION.to_owned();
    for metric in METRICS {
        let _ = writeln!(page, "- **{}**: {}.", metric.title, metric.about);
    }
    if !results.unfinished.is_empty() {
        let names = results.unfinished.join(", ");
        let _ = write!(page, "\n**Left out, because they are not finished**: {names}.\n");
    }
    let mut model = None;
    for record in &results.records {
        let name = &record.identity.model.name;
        if model != Some(name) {
            let _ = write!(page, "\n## {name}\n");
            page += &images(plots, name, None);
            model = Some(name);
        }
        page += &section(record, plots);
    }
    page + &swaps::section(&results.swaps)
}

/// One result's tables, for a terminal.
pub(crate) fn terminal(record: &Record) -> String {
    heading(record) + "\n\n" + &tables(record)
}

fn section(record: &Record, plots: &[Drawn]) -> String {
    let identity = &record.identity;
    let mut text = format!("\n### {}, seed {}\n\n", identity.task, identity.seed);
    text += &heading(record);
    text += "\n\n";
    text += &tables(record);
    text + &images(plots, &identity.model.name, Some((&identity.task, identity.seed)))
}

fn heading(record: &Record) -> String {
    let identity = &record.identity;
    let model = &identity.model;
    let mut text = format!(
        "{}: {} questions, {} items, about {} tokens each; model {}, fingerprint {}, through {}; \
         commit {}; {}",
        identity.task,
        identity.n,
        identity.items,
        number(record.summary.all.first().map_or(0.0, |arm| arm.context_tokens)),
        model.name,
        model.fingerprint.get(..16).unwrap_or(&model.fingerprint),
        model.through,
        identity.provenance.commit,
        identity.provenance.cpu,
    );
    if let (Some(isa), Some(threads)) = (&model.isa, model.threads) {
        let _ = write!(text, ", {isa}, {threads} threads");
    }
    text.push('.');
    if record.summary.too_long > 0 {
        let (left_out, limit) = (record.summary.too_long, model.context_max);
        let _ = write!(text, " **{left_out} items left out: the context holds {limit} tokens.**");
    }
    text
}

fn tables(record: &Record) -> String {
    let summary = &record.summary;
    let mut text = arms_table(&summary.all, ANSWERS);
    text.push('\n');
    text += &arms_table(&summary.all, DISTRIBUTIONS);
    for name in BY_GROUP.iter().filter(|_| !summary.groups.is_empty()) {
        text.push('\n');
        text += &group_table(&summary.groups, name);
    }
    text
}

/// Two rows for each arm: the means with their intervals, and their differences to `recompute`.
fn arms_table(arms: &[ArmSummary], names: &[&str]) -> String {
    let times = names == DISTRIBUTIONS;
    let mut heading = vec!["arm".to_owned()];
    heading.extend(names.iter().map(|name| title(name).to_owned()));
    heading.extend(times.then(|| "first token ms, p50 / p95".to_owned()));
    let mut rows = Vec::new();
    for arm in arms {
        let measured = |name: &str| arm.metrics.get(name);
        let mut row = vec![format!("`{}`", arm.arm)];
        row.extend(names.iter().map(|name| {
            measured(name).map_or(String::new(), |measured| estimate(&measured.value))
        }));
        row.extend(times.then(|| {
            let of = arm.first_token_ms.as_ref();
            of.map_or(String::new(), |of| format!("{} / {}", number(of.p50), number(of.p95)))
        }));
        rows.push(row);
        let difference = |name: &&str| measured(name).and_then(|measured| measured.difference);
        if names.iter().any(|name| difference(name).is_some()) {
            let mut row = vec!["less `recompute`".to_owned()];
            row.extend(
                names.iter().map(|name| difference(name).as_ref().map_or(String::new(), estimate)),
            );
            row.extend(times.then(String::new));
            rows.push(row);
        }
    }
    table(&heading, &rows)
}

/// A row for each group, a column for each arm.
fn group_table(groups: &[Group], name: &str) -> String {
    let mut heading = vec![format!("{} by group", title(name))];
    heading.extend(groups[0].arms.iter().map(|arm| format!("`{}`", arm.arm)));
    heading.push("items".to_owned());
    let row = |group: &Group| {
        let mut row = vec![group.name.clone()];
        row.extend(group.arms.iter().map(|arm| {
            arm.metrics.get(name).map_or(String::new(), |measured| estimate(&measured.value))
        }));
        row.push(group.items.to_string());
        row
    };
    table(&heading, &groups.iter().map(row).collect::<Vec<_>>())
}

fn title(name: &str) -> &'static str {
    METRICS.iter().find(|metric| metric.name == name).expect("a metric of the list").title
}

fn images(plots: &[Drawn], model: &str, result: Option<(&str, u64)>) -> String {
    let of = |plot: &&Drawn| {
        plot.of.0 == model && plot.of.1.as_ref().map(|of| (of.0.as_str(), of.1)) == result
    };
    let image = |plot: &Drawn| format!("\n![{}](plots/{})\n", plot.title, plot.file);
    plots.iter().filter(of).map(image).collect()
}

const INTRODUCTION: &str = "\
# What a join costs in quality

Made by `cargo run --release -p evals -- report` from `evals/results/`; do not edit. Every arm is measured on the same
token ids as `recompute`, which is plain concatenation. A cell is a mean with its 95 % interval (bootstrap over
questions); the row below it is the arm less `recompute` on the same items, with the interval of that difference.

`reuse-no-root` encodes every fragment with no root in front; `recompute-rechunked` is `recompute` in another
chunking, the noise floor. KL is taken over the likeliest 200 tokens that both sides know and one class for all others,
which bounds it from below. Times are of calls that found the fragments cached and nothing else; where an item
could not be had so, it counts for neither time nor share.

";

#[cfg(test)]
mod tests {
    use super::{ANSWERS, BY_GROUP, DISTRIBUTIONS, title};

    #[test]
    fn every_column_is_a_metric() {
        for name in ANSWERS.iter().chain(DISTRIBUTIONS).chain(BY_GROUP) {
            assert!(!title(name).is_empty());
        }
    }
}

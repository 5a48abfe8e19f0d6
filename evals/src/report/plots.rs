//! Which plots there are: quality against what is recomputed, for each result; time to the first
//! token against the context's length, for each model.

use super::svg::{Plot, Point, Series};
use crate::{metrics::bootstrap::percentile, record::Record, summary::ArmSummary};
use std::collections::BTreeMap;

/// A plot as a file.
pub(super) struct Drawn {
    pub(super) file: String,
    pub(super) svg: String,
    /// What it shows, for readers who do not see it.
    pub(super) title: String,
    /// Model, and task and seed where it is of one result.
    pub(super) of: (String, Option<(String, u64)>),
}

/// Every plot of these results.
pub(super) fn all(records: &[Record]) -> Vec<Drawn> {
    let mut drawn = Vec::new();
    for record in records {
        drawn.extend(
            [("f1", "F1"), ("kl_first", "KL at the first token, nats")]
                .map(|(metric, y)| quality(record, metric, y)),
        );
    }
    let mut by_model = BTreeMap::<&str, Vec<&Record>>::new();
    for record in records {
        by_model.entry(&record.identity.model.name).or_default().push(record);
    }
    drawn.extend(by_model.iter().filter_map(|(model, records)| first_token(model, records)));
    drawn
}

fn quality(record: &Record, metric: &str, y: &'static str) -> Drawn {
    let identity = &record.identity;
    let (model, task, seed) = (&identity.model.name, &identity.task, identity.seed);
    let title = format!("{model}, {task}: {y} against what is recomputed");
    let mut families = BTreeMap::<&str, Vec<Point>>::new();
    for arm in &record.summary.all {
        let name = arm.arm.as_str();
        let (family, label) = name.split_once(':').unwrap_or((name, ""));
        families.entry(family).or_default().extend(point(arm, metric, label));
    }
    let series = families.into_iter().map(|(name, mut points)| {
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        Series { name: name.to_owned(), points }
    });
    let plot = Plot { title, x: "share recomputed", y, series: series.collect() };
    Drawn {
        file: file_name(&[model, task, &seed.to_string(), metric]),
        svg: plot.svg(),
        title: plot.title,
        of: (model.clone(), Some((task.clone(), seed))),
    }
}

fn point(arm: &ArmSummary, metric: &str, label: &str) -> Option<Point> {
    let share = arm.metrics.get("share_recomputed")?.value.mean;
    let value = arm.metrics.get(metric)?.value;
    let whiskers = Some((value.low, value.high));
    Some(Point { x: share, y: value.mean, whiskers, label: label.to_owned() })
}

/// Medians of items of about one length: four lengths to each doubling.
fn first_token(model: &str, records: &[&Record]) -> Option<Drawn> {
    let mut lines = BTreeMap::<&str, BTreeMap<i64, Vec<(f64, f64)>>>::new();
    for record in records {
        for item in &record.items {
            for (arm, numbers) in record.identity.arms.iter().zip(&item.arms) {
                let Some(ms) = numbers.first_token_ms else { continue };
                let length = numbers.context_tokens as f64;
                let bin = (length.log2() * 4.0).floor() as i64;
                lines.entry(arm).or_default().entry(bin).or_default().push((length, ms));
            }
        }
    }
    let median = |values: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = values.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        percentile(&values, 0.5).expect("a bin has a value")
    };
    let series: Vec<_> = lines
        .into_iter()
        .map(|(arm, bins)| {
            let point = |values: &Vec<(f64, f64)>| Point {
                x: median(values, |v| v.0),
                y: median(values, |v| v.1),
                whiskers: None,
                label: String::new(),
            };
            Series { name: arm.to_owned(), points: bins.values().map(point).collect() }
        })
        .collect();
    let title = format!("{model}: time to the first token");
    let plot = Plot { title, x: "tokens before the answer", y: "ms", series };
    (!plot.series.is_empty()).then(|| Drawn {
        file: file_name(&[model, "first-token"]),
        svg: plot.svg(),
        title: plot.title,
        of: (model.to_owned(), None),
    })
}

/// Letters, digits, dots and hyphens.
fn file_name(parts: &[&str]) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    format!("{}.svg", parts.join("-").chars().map(safe).collect::<String>())
}

//! Tables in Markdown, padded so that they read as text too; and how numbers are written.

use crate::metrics::bootstrap::Estimate;

/// Rows below a heading; the first column is left-aligned, the others right-aligned.
pub(super) fn table(heading: &[String], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| &row[column]).chain([&heading[column]]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |row: &[String]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule = widths.iter().enumerate().map(|(column, &width)| {
        if column == 0 { "-".repeat(width) } else { format!("{}:", "-".repeat(width - 1)) }
    });
    let rule = format!("| {} |\n", rule.collect::<Vec<_>>().join(" | "));
    let body: String = rows.iter().map(|row| line(row)).collect();
    line(heading) + &rule + &body
}

/// A mean and its interval.
pub(super) fn estimate(estimate: &Estimate) -> String {
    let Estimate { mean, low, high, .. } = estimate;
    format!("{} [{}, {}]", number(*mean), number(*low), number(*high))
}

/// With three decimals below 10, with fewer above.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    let text = if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    };
    // What rounds to zero has no sign.
    if text.trim_start_matches(['-', '0', '.']).is_empty() {
        text.trim_start_matches('-').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{number, table};

    #[test]
    fn tables_are_padded() {
        let strings = |row: &[&str]| row.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let text = table(&strings(&["arm", "F1"]), &[strings(&["reuse", "0.5"])]);
        assert_eq!(text, "| arm   |  F1 |\n| ----- | --: |\n| reuse | 0.5 |\n");
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.12345, "0.123"),
            (-0.0001, "0.000"),
            (-0.5, "-0.500"),
            (12.34, "12.3"),
            (1234.5, "1234"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}

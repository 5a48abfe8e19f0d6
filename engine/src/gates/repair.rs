//! Gates of repairs: rows computed again over joined fragments, chosen by the policies themselves.

use super::{Bound, Desk, Promise, Sample, Written, concatenation, sequential};
use crate::{
    JoinPolicy,
    policy::{Choice, Evidence, Places, Scores},
    runner::entropy,
};
use kernels::{HiddenRows, RowAddr, Run, Span};
use models::{Batch, Model, TokenId, Weight};

/// A policy that computes every row again that did not see what stands before it gives what plain
/// prefill gives.
pub(super) fn whole(
    model: &mut dyn Model,
    sample: &Sample,
    bound: Bound,
    policy: JoinPolicy,
) -> f32 {
    let vocab = model.shape().vocab;
    let (_, plain) = Desk::new(model).write(&concatenation(sample), 0, &[], usize::MAX);
    let repaired = repaired(model, sample, policy, usize::MAX);
    let tail = &plain[plain.len() - sample.tail.len() * vocab..];
    if repaired.is_clean { bound.measure(vocab, tail, &repaired.tail) } else { f32::INFINITY }
}

/// Rows computed again in chunks are those computed at once, however rows were scored; and no
/// shared page changes. Where rounding may differ between batches it may also choose other rows of those
/// that weigh the same: then there is nothing to compare.
pub(super) fn overlay(
    model: &mut dyn Model,
    sample: &Sample,
    (bound, promise): (Bound, Promise),
) -> f32 {
    let vocab = model.shape().vocab;
    let policies = [
        JoinPolicy::Boundary { tokens: 2 },
        JoinPolicy::Query { ratio: 0.3 },
        JoinPolicy::Deviation { ratio: 0.3 },
        JoinPolicy::Auto { quality: 0.98 },
    ];
    let mut error = 0.0_f32;
    for policy in policies {
        let whole = repaired(model, sample, policy, usize::MAX);
        for chunk in [1, 3] {
            let cut = repaired(model, sample, policy, chunk);
            let chosen_alike = whole.selected == cut.selected;
            let same = match promise {
                Promise::Bits => chosen_alike && whole.overlay == cut.overlay,
                Promise::Rounding if !chosen_alike && whole.is_clean && cut.is_clean => continue,
                Promise::Rounding => true,
            };
            let off = promise.measure((vocab, bound), &whole.tail, &cut.tail);
            let is_right = whole.is_clean && cut.is_clean && same;
            error = error.max(if is_right { off } else { f32::INFINITY });
        }
    }
    error
}

/// What came of a repair.
struct Repaired {
    /// Log-probabilities of the tail.
    tail: Vec<f32>,
    selected: Vec<u32>,
    /// Hash of the rows computed again.
    overlay: [u8; 32],
    /// Every page of root and fragments is what it was.
    is_clean: bool,
}

/// Joins the sample under `policy`, no more than `chunk` rows at a time.
fn repaired(model: &mut dyn Model, sample: &Sample, policy: JoinPolicy, chunk: usize) -> Repaired {
    let mut desk = Desk::new(model);
    let (root, _) = desk.write(&sample.root, 0, &[], usize::MAX);
    let fragments: Vec<Written> = sample
        .fragments
        .iter()
        .map(|tokens| desk.write(tokens, root.rows, &[&root], usize::MAX).0)
        .collect();
    let joined = sequential(&root, &fragments.iter().collect::<Vec<_>>());
    let before: Vec<_> = joined.iter().map(|written| desk.digest(written)).collect();
    let lengths: Vec<_> = sample.fragments.iter().map(Vec::len).collect();
    let exact = lengths.first().copied().unwrap_or(0);
    let places = Places { root: sample.root.len(), lengths, exact, tail: sample.tail.len() };
    let selected = match policy.choice(&places) {
        Choice::Rows(rows) => rows.to_vec(),
        Choice::Scored { by: Scores::Tail(by), choose, .. } => {
            choose(&policy, &places, &weigh(&mut desk, sample, &joined, (by, chunk)))
        }
        Choice::Scored { by: Scores::Deviation, choose, .. } => {
            let scores = deviate(&mut desk, sample, &joined, chunk);
            choose(&policy, &places, &Evidence { scores, entropy: 0.0 })
        }
    };
    let hidden = hidden(&desk, &joined, &selected);
    let mut runs: Vec<Run<'_>> = joined.iter().map(Written::run).collect();
    runs.iter_mut().zip(&hidden).for_each(|(run, hidden)| run.hidden = Some(hidden));
    let overlay = desk.repair(&concatenation(sample), &selected, &runs, chunk);
    let positions = Some(&selected[..]);
    runs.push(Run { positions, ..Run::new(&overlay.pages, overlay.rows, 0, 0) });
    let start = joined.last().map_or(0, Written::end);
    let tail = desk.write_after(&sample.tail, start, &runs, chunk).1;
    let after: Vec<_> = joined.iter().map(|written| desk.digest(written)).collect();
    let digest = desk.digest(&overlay);
    Repaired { tail, selected, overlay: digest, is_clean: before == after }
}

/// Rows of each run that `selected` replaces.
fn hidden(desk: &Desk<'_>, joined: &[Written], selected: &[u32]) -> Vec<HiddenRows> {
    let page_rows = desk.model.shape().page_rows;
    let of = |run: &Written| {
        let mut hidden = HiddenRows::none(run.rows as usize, page_rows);
        let inside = selected.iter().filter(|&&row| (run.start..run.end()).contains(&row));
        inside.for_each(|row| hidden.hide((row - run.start) as usize));
        hidden
    };
    joined.iter().map(of).collect()
}

/// What rows of fragments weigh with the tail.
fn weigh(
    desk: &mut Desk<'_>,
    sample: &Sample,
    joined: &[Written],
    (by, chunk): (Weight, usize),
) -> Evidence {
    let start = joined.last().map_or(0, Written::end);
    let own = desk.blank(sample.tail.len(), start);
    let fragments = sample.root.len()..start as usize;
    let mut scores = vec![0.0; fragments.len()];
    let mut logits = Vec::new();
    for (i, part) in sample.tail.chunks(chunk).enumerate() {
        let first = (i * chunk.min(sample.tail.len())) as u32;
        let end = first + part.len() as u32;
        let mut runs: Vec<Run<'_>> = joined.iter().map(Written::run).collect();
        runs.push(Run::new(&own.pages, end, start, 0));
        let mut mass = vec![0; (start + end) as usize];
        let positions: Vec<u32> = (start + first..start + end).collect();
        let writes: Vec<RowAddr> = (first..end).map(|row| desk.address(&own, row)).collect();
        let spans = [Span::new(0..part.len(), &runs)];
        desk.model.weigh(
            &Batch {
                tokens: part,
                positions: &positions,
                writes: &writes,
                spans: &spans,
                logits_rows: &[part.len() - 1],
            },
            by,
            &mut mass,
            &mut logits,
        );
        let placed = scores.iter_mut().zip(&mass[fragments.clone()]);
        placed.for_each(|(score, &mass)| *score += mass as f64);
    }
    Evidence { scores, entropy: entropy(&logits) }
}

/// How far V of rows of fragments would be from what is cached.
fn deviate(desk: &mut Desk<'_>, sample: &Sample, joined: &[Written], chunk: usize) -> Vec<f64> {
    let runs: Vec<Run<'_>> = joined.iter().map(Written::run).collect();
    let mut rows: Vec<(TokenId, u32, RowAddr)> = Vec::new();
    for (tokens, run) in sample.fragments.iter().zip(&joined[1..]) {
        rows.extend(
            (0..run.rows)
                .zip(tokens)
                .map(|(row, &token)| (token, run.start + row, desk.address(run, row))),
        );
    }
    let mut scores = Vec::new();
    for part in rows.chunks(chunk) {
        let tokens: Vec<TokenId> = part.iter().map(|row| row.0).collect();
        let positions: Vec<u32> = part.iter().map(|row| row.1).collect();
        let writes: Vec<RowAddr> = part.iter().map(|row| row.2).collect();
        let spans = [Span::new(0..part.len(), &runs)];
        let mut deviations = vec![0.0; part.len()];
        desk.model.deviate(
            &Batch {
                tokens: &tokens,
                positions: &positions,
                writes: &writes,
                spans: &spans,
                logits_rows: &[],
            },
            &mut deviations,
        );
        scores.extend(deviations);
    }
    scores
}

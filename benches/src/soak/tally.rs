//! What clients saw: counts, times, answers to compare, and what must not be.

use super::now;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

/// Compositions whose answers are kept.
const ANSWERS_MAX: usize = 8_192;
/// Offences that are shown; all are counted.
const SHOWN_MAX: usize = 8;
/// Characters of a request or a response that are shown.
const SHOWN_CHARS: usize = 600;

/// Everything that all clients saw.
#[derive(Default)]
pub(crate) struct Tally {
    /// By kind of request, then by status.
    pub(crate) requests: BTreeMap<&'static str, BTreeMap<String, u64>>,
    /// Tokens that came, of streams and of whole answers.
    pub(crate) tokens: u64,
    pub(crate) times: Times,
    /// When any client heard anything last.
    heard: Option<Instant>,
    longest_silence: Duration,
    /// Answers to a composition that had been answered before.
    pub(crate) compared: u64,
    answers: HashMap<String, Answer>,
    /// Forks that were answered.
    pub(crate) forks: u64,
    /// Answers that became fragments, and generations that wanted one which was forgotten.
    pub(crate) sealed: u64,
    pub(crate) sealed_lost: u64,
    /// Newer times of live clocks that came into answers, and their tokens.
    pub(crate) swaps: u64,
    pub(crate) swap_tokens: u64,
    pub(crate) violations: u64,
    pub(crate) shown: Vec<Violation>,
    /// Seconds since the start, and megabytes.
    pub(crate) memory: Vec<(f64, f64)>,
}

/// Milliseconds, by the clients' clock where nothing else is said.
#[derive(Default)]
pub(crate) struct Times {
    pub(crate) first_token: Vec<f64>,
    pub(crate) between_tokens: Vec<f64>,
    /// From sending a cancel to the stream's last event, and to the cancel's own answer.
    pub(crate) cancel_to_end: Vec<f64>,
    pub(crate) cancel_to_answer: Vec<f64>,
    /// By the server's clock: from a live clock's latest change to the first token, and to each swap.
    pub(crate) staleness_first_token: Vec<f64>,
    pub(crate) staleness_swap: Vec<f64>,
}

/// Something that must not be.
#[derive(Serialize)]
pub(crate) struct Violation {
    what: String,
    request: String,
    response: String,
}

impl Violation {
    /// Of the server as a process, whoever asked.
    pub(crate) fn of_process(what: &str, seen: &str) -> Self {
        Self { what: what.to_owned(), request: String::new(), response: seen.to_owned() }
    }
}

/// The part of a generation that is compared.
#[derive(Clone, Default, Deserialize)]
pub(crate) struct Answer {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) tokens: Vec<u32>,
    pub(crate) finish_reason: Option<String>,
}

impl Answer {
    fn has_stopped(&self) -> bool {
        self.finish_reason.as_deref() == Some("stop")
    }

    /// Both say the same, and ended in the same way.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let all = |answer: &Self| {
            (answer.tokens.clone(), answer.text.clone(), answer.finish_reason.clone())
        };
        all(self) == all(other)
    }

    /// Neither says anything that the other does not, as far as both were let go on.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        let (short, long) =
            if self.tokens.len() <= other.tokens.len() { (self, other) } else { (other, self) };
        let is_same = short.tokens.len() == long.tokens.len();
        long.tokens.starts_with(&short.tokens)
            && if is_same { short.text == long.text } else { !short.has_stopped() }
    }
}

impl Tally {
    /// Some client heard something.
    pub(crate) fn hear(&mut self, at: Instant) {
        self.longest_silence = self.longest_silence();
        self.heard = Some(at);
    }

    /// The longest time in which nobody heard anything.
    pub(crate) fn longest_silence(&self) -> Duration {
        self.longest_silence.max(self.heard.map_or(Duration::ZERO, |heard| heard.elapsed()))
    }

    pub(crate) fn count(&mut self, kind: &'static str, status: &str) {
        self.hear(now());
        *self.requests.entry(kind).or_default().entry(status.to_owned()).or_default() += 1;
    }

    pub(crate) fn count_of(&self, status: &str) -> u64 {
        self.requests.values().filter_map(|by_status| by_status.get(status)).sum()
    }

    pub(crate) fn violate(&mut self, what: impl Into<String>, request: &str, response: &str) {
        self.violations += 1;
        if self.shown.len() < SHOWN_MAX {
            let cut = |text: &str| text.chars().take(SHOWN_CHARS).collect();
            let (request, response) = (cut(request), cut(response));
            self.shown.push(Violation { what: what.into(), request, response });
        }
    }

    /// Holds an answer against the others to the same composition under the same policy: greedy
    /// answers hang on nothing else, so one is where the other is, or was cut off before.
    pub(crate) fn compare(&mut self, composition: &str, request: &str, answer: Answer) {
        let Some(known) = self.answers.get_mut(composition) else {
            if self.answers.len() < ANSWERS_MAX {
                self.answers.insert(composition.to_owned(), answer);
            }
            return;
        };
        self.compared += 1;
        if !known.agrees(&answer) {
            let both = format!(
                "{:?} {:?} instead of {:?} {:?}; tokens {:?} instead of {:?}",
                answer.text,
                answer.finish_reason,
                known.text,
                known.finish_reason,
                answer.tokens,
                known.tokens
            );
            self.violate(format!("another answer to {composition}"), request, &both);
        } else if answer.tokens.len() > known.tokens.len() || answer.has_stopped() {
            *known = answer;
        }
    }
}

/// Where most of some times are.
#[derive(Serialize)]
pub(crate) struct Percentiles {
    count: usize,
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

impl Percentiles {
    /// Nothing of nothing.
    pub(crate) fn of(mut times: Vec<f64>) -> Option<Self> {
        times.sort_by(f64::total_cmp);
        let last = times.len().checked_sub(1)?;
        let at = |share: f64| times[(times.len() as f64 * share) as usize];
        Some(Self {
            count: times.len(),
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: times[last],
        })
    }
}

/// Resident memory of the server, in megabytes.
#[derive(Serialize)]
pub(crate) struct Memory {
    after_warmup_mb: f64,
    end_mb: f64,
    max_mb: f64,
    /// Of a straight line through the last half.
    slope_mb_per_minute: f64,
    /// What that line rises by.
    pub(crate) rise_mb: f64,
}

/// This part of the run is warm-up: memory for KV is touched as it fills.
const WARMUP_SHARE: usize = 5;

impl Memory {
    pub(crate) fn of(samples: &[(f64, f64)]) -> Option<Self> {
        let last = samples.last()?;
        let half = &samples[samples.len() / 2..];
        let slope = slope(half);
        Some(Self {
            after_warmup_mb: samples[samples.len() / WARMUP_SHARE].1,
            end_mb: last.1,
            max_mb: samples.iter().map(|sample| sample.1).fold(0.0, f64::max),
            slope_mb_per_minute: slope * 60.0,
            rise_mb: slope * (last.0 - half[0].0),
        })
    }
}

/// Of the straight line nearest to the points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let variance: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if variance > 0.0 { covariance / variance } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(tokens: &[u32], finish_reason: &str) -> Answer {
        let text = format!("{tokens:?}");
        let finish_reason = Some(finish_reason.to_owned());
        Answer { id: String::new(), text, tokens: tokens.to_vec(), finish_reason }
    }

    #[test]
    fn an_answer_may_be_cut_off_but_not_differ() {
        let whole = answer(&[1, 2, 3], "stop");
        for (other, agrees) in [
            (answer(&[1, 2], "length"), true),
            (answer(&[], "cancelled"), true),
            (answer(&[1, 2, 3], "length"), true),
            (answer(&[1, 3], "length"), false),
            (answer(&[1, 2], "stop"), false),
            (answer(&[1, 2, 3, 4], "length"), false),
        ] {
            assert_eq!(whole.agrees(&other), agrees, "{:?}", other.tokens);
            assert_eq!(other.agrees(&whole), agrees, "{:?}", other.tokens);
        }
    }

    #[test]
    fn answers_are_alike_whoever_gave_them() {
        let whole = answer(&[1, 2], "stop");
        assert!(whole.is_like(&Answer { id: "another".to_owned(), ..whole.clone() }));
        assert!(!whole.is_like(&answer(&[1, 2], "length")));
        assert!(!whole.is_like(&answer(&[1], "stop")));
    }

    #[test]
    fn a_line_has_its_slope() {
        let line: Vec<_> = (0..10).map(|i| (f64::from(i), 3.0 + 0.5 * f64::from(i))).collect();
        assert!((slope(&line) - 0.5).abs() < 1e-12);
        assert!(slope(&line[..1]).abs() < 1e-12);
    }
}

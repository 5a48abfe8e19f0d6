//! What `/metrics` shows: the engine's numbers, and the server's counters and histograms.
//!
//! Each server has a recorder of its own (no process-wide one), so tests run several in a process.

use crate::{api::generations::finish_reason, side::Totals};
use engine::{Stats, Summary};
use metrics::{counter, describe_counter, describe_gauge, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Counters, gauges and histograms of one server.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

const SECONDS: &[f64] =
    &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
const TOKENS_PER_SECOND: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 50.0, 75.0, 100.0, 150.0, 200.0, 400.0, 1000.0];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All zero.
    pub fn new() -> Self {
        let suffix = |s: &str| Matcher::Suffix(s.to_owned());
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(suffix("_seconds"), SECONDS)
            .and_then(|b| b.set_buckets_for_metric(suffix("_tokens_per_second"), TOKENS_PER_SECOND))
            .expect("the bucket lists are not empty");
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        with_local_recorder(&recorder, || {
            for (name, _, about) in GAUGES {
                describe_gauge!(*name, *about);
            }
            for (name, _, about) in COUNTERS {
                describe_counter!(*name, *about);
            }
            for (name, _, about) in SIDE_COUNTERS {
                describe_counter!(*name, *about);
            }
            // A rate needs the zero before the first.
            for outcome in OUTCOMES {
                counter!("cento_generations_total", "outcome" => *outcome).increment(0);
            }
        });
        Self { recorder, handle }
    }

    /// One answered request.
    pub(crate) fn request(&self, route: &str, status: u16, took: Duration) {
        with_local_recorder(&self.recorder, || {
            let (route, status) = (route.to_owned(), status.to_string());
            counter!("cento_http_requests_total", "route" => route.clone(), "status" => status)
                .increment(1);
            histogram!("cento_http_request_seconds", "route" => route).record(took);
        });
    }

    /// One generation that could not go on.
    pub(crate) fn failed_generation(&self) {
        with_local_recorder(&self.recorder, || {
            counter!("cento_generations_total", "outcome" => "failed").increment(1);
        });
    }

    /// One ended generation.
    pub(crate) fn generation(&self, summary: &Summary) {
        let outcome = finish_reason(summary.finish_reason);
        with_local_recorder(&self.recorder, || {
            counter!("cento_generations_total", "outcome" => outcome).increment(1);
            let timings = &summary.timings;
            histogram!("cento_queue_seconds").record(timings.queue_ms / 1e3);
            histogram!("cento_prefill_seconds").record(timings.prefill_ms / 1e3);
            if summary.counts.output > 0 {
                histogram!("cento_first_token_seconds").record(timings.first_token_ms / 1e3);
            }
            if summary.counts.output > 1 {
                histogram!("cento_decode_tokens_per_second")
                    .record(timings.decode_tokens_per_second);
            }
        });
        // Keeps the histograms' buffers short when nobody scrapes.
        self.handle.run_upkeep();
    }

    /// The Prometheus text format.
    pub(crate) fn render(&self, stats: &Stats, sides: &Totals) -> String {
        with_local_recorder(&self.recorder, || {
            record(stats);
            for (name, value, _) in SIDE_COUNTERS {
                counter!(*name).absolute(value(sides).load(Ordering::Relaxed));
            }
        });
        self.handle.render()
    }
}

/// The engine's numbers.
fn record(stats: &Stats) {
    for (name, value, _) in GAUGES {
        gauge!(*name).set(value(stats) as f64);
    }
    for (name, value, _) in COUNTERS {
        counter!(*name).absolute(value(stats));
    }
}

/// A metric's name, where its value is, and what it says.
type Row<T> = (&'static str, fn(&Stats) -> T, &'static str);

const GAUGES: &[Row<usize>] = &[
    ("cento_pages", |s| s.pages, "Pages of KV memory"),
    ("cento_pages_free", |s| s.pages_free, "Pages nobody owns"),
    ("cento_pages_sequences", |s| s.pages_sequences, "Pages that live generations alone own"),
    ("cento_fragments", |s| s.fragments, "Fragments known"),
    ("cento_fragments_cached", |s| s.fragments_cached, "Fragments whose KV is in memory"),
    ("cento_fragments_stored", |s| s.fragments_stored, "Fragments and roots whose KV a tier keeps"),
    ("cento_tier_bytes", |s| s.tier.bytes as usize, "Bytes tiers take"),
    ("cento_host_bytes", |s| s.tier_host.bytes as usize, "Those of them in this machine's memory"),
    (
        "cento_tier_bytes_waiting",
        |s| s.tier.bytes_waiting as usize,
        "Bytes of KV that wait to be written",
    ),
    (
        "cento_shared_bytes_waiting",
        |s| s.tier_shared.bytes_waiting as usize,
        "Those of them that wait to be uploaded to the shared store",
    ),
    ("cento_overlays", |s| s.overlays, "Overlays in memory: rows computed again for a composition"),
    ("cento_generations_waiting", |s| s.waiting, "Generations waiting for a place"),
    ("cento_generations_running", |s| s.running, "Generations running"),
];

const COUNTERS: &[Row<u64>] = &[
    ("cento_steps_total", |s| s.steps, "Steps of the loop that ran a batch"),
    ("cento_tokens_encoded_total", |s| s.tokens_encoded, "Tokens encoded into fragments"),
    ("cento_tokens_prefilled_total", |s| s.tokens_prefilled, "Tokens of tails and of recompute"),
    (
        "cento_tokens_repaired_total",
        |s| s.tokens_repaired,
        "Fragment tokens computed again for a composition",
    ),
    ("cento_tokens_scored_total", |s| s.tokens_scored, "Tokens forwarded to choose such tokens"),
    ("cento_tokens_reused_total", |s| s.tokens_reused, "Fragment tokens taken from the cache"),
    (
        "cento_tokens_prefix_reused_total",
        |s| s.tokens_prefix_reused,
        "Root and tail tokens taken from the cache",
    ),
    ("cento_tokens_loaded_total", |s| s.tokens_loaded, "Tokens whose KV came from a tier"),
    ("cento_tier_evicted_total", |s| s.tier.evicted, "Records a tier gave up for others"),
    (
        "cento_host_evicted_total",
        |s| s.tier_host.evicted,
        "Those of them that were in this machine's memory",
    ),
    ("cento_tier_refused_total", |s| s.tier.refused, "Records a tier has no room for"),
    ("cento_tier_set_aside_total", |s| s.tier.set_aside, "Records that did not verify"),
    ("cento_tier_read_errors_total", |s| s.tier.read_errors, "Reads of a tier that failed"),
    ("cento_tier_write_errors_total", |s| s.tier.write_errors, "Writes of a tier that failed"),
    (
        "cento_shared_set_aside_total",
        |s| s.tier_shared.set_aside,
        "Objects of the shared store that did not verify",
    ),
    (
        "cento_shared_read_errors_total",
        |s| s.tier_shared.read_errors,
        "Requests to the shared store for records that failed",
    ),
    (
        "cento_shared_write_errors_total",
        |s| s.tier_shared.write_errors,
        "Uploads and deletions in the shared store that failed, or were not tried while it was down",
    ),
    (
        "cento_rows_adopted_total",
        |s| s.rows_adopted,
        "Rows of tails and answers that forks took over from running generations",
    ),
    ("cento_rows_copied_total", |s| s.rows_copied, "Rows copied for forks"),
    ("cento_tokens_generated_total", |s| s.tokens_generated, "Tokens generated"),
    ("cento_evictions_total", |s| s.evictions, "Fragments evicted"),
    ("cento_preemptions_total", |s| s.preemptions, "Generations preempted"),
    ("cento_generations_ended_total", |s| s.generations_ended, "Generations ended in any way"),
];

/// As [`Row`], of side contexts.
type SideRow = (&'static str, fn(&Totals) -> &AtomicU64, &'static str);

const SIDE_COUNTERS: &[SideRow] = &[
    (
        "cento_side_changes_total",
        |t| &t.changes,
        "Changes of side contexts by what came or was taken",
    ),
    ("cento_side_rolled_off_total", |t| &t.rolled_off, "Entries that rolled off side contexts"),
    (
        "cento_side_source_failures_total",
        |t| &t.source_failures,
        "Readings of side contexts' sources that failed",
    ),
];

/// The values of the label `outcome`.
const OUTCOMES: &[&str] = &["stop", "length", "context", "cancelled", "failed"];

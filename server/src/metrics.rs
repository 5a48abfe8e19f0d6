//! What `/metrics` shows: the engine's numbers, and the server's counters and histograms.
//!
//! Each server has a recorder of its own (no process-wide one), so tests run several in a process.

use crate::api::generations::finish_reason;
use engine::{Stats, Summary};
use metrics::{counter, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use std::{fmt, time::Duration};

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
    pub(crate) fn render(&self, stats: &Stats) -> String {
        with_local_recorder(&self.recorder, || record(stats));
        self.handle.render()
    }
}

/// The engine's numbers, by their names there.
fn record(stats: &Stats) {
    let gauges = [
        ("cento_pages", stats.pages),
        ("cento_pages_free", stats.pages_free),
        ("cento_pages_sequences", stats.pages_sequences),
        ("cento_fragments", stats.fragments),
        ("cento_fragments_cached", stats.fragments_cached),
        ("cento_generations_waiting", stats.waiting),
        ("cento_generations_running", stats.running),
    ];
    for (name, value) in gauges {
        gauge!(name).set(value as f64);
    }
    let counters = [
        ("cento_steps_total", stats.steps),
        ("cento_tokens_encoded_total", stats.tokens_encoded),
        ("cento_tokens_prefilled_total", stats.tokens_prefilled),
        ("cento_tokens_reused_total", stats.tokens_reused),
        ("cento_tokens_prefix_reused_total", stats.tokens_prefix_reused),
        ("cento_tokens_generated_total", stats.tokens_generated),
        ("cento_evictions_total", stats.evictions),
        ("cento_preemptions_total", stats.preemptions),
        ("cento_generations_ended_total", stats.generations_ended),
    ];
    for (name, value) in counters {
        counter!(name).absolute(value);
    }
}

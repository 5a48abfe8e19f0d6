//! Bounds of the engine, each with its reason. What depends on the model or on the operator
//! stands in `ModelShape` and `Config`.

use crate::{Config, RequestError};
use models::ModelShape;

/// Messages received in one step: a flood of calls may delay a step by microseconds only.
pub(crate) const MESSAGES_PER_STEP: usize = 256;

/// Rows of prefill and encoding in a step for work of low priority, while more urgent work runs: a side
/// context's few tokens go in one step, and delay its decodes by a fraction of what it takes anyway.
const LOW_ROWS_PER_STEP: usize = 32;

/// In a step that prefills for urgent work anyway, low priority gets one row in so many.
const LOW_SHARE: usize = 4;

/// Alternatives of a log-probability: each step copies them once per token.
pub(crate) const LOGPROBS_MAX: usize = 1_000;

/// Stop strings of a request: each is searched for in every token's text.
pub(crate) const STOP_STRINGS_MAX: usize = 64;

/// Bytes of a stop string: text is held back while it could still become one.
pub(crate) const STOP_STRING_BYTES_MAX: usize = 1_024;

/// Placements of a composition: each is a run that every row of the tail looks at.
pub(crate) const PLACEMENTS_MAX: usize = 4_096;

/// Pinned fragments may take one part in this many of the pool: the rest always serves work.
pub(crate) const PIN_SHARE: usize = 2;

const _: () = assert!(PIN_SHARE >= 2, "pins must leave at least half of the pool");
const _: () = assert!(MESSAGES_PER_STEP > 0, "a step that receives nothing never learns of work");
const _: () = assert!(STOP_STRING_BYTES_MAX > 0 && STOP_STRINGS_MAX > 0 && PLACEMENTS_MAX > 0);

/// What one step may do at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Rows of the batch.
    pub(crate) rows: usize,
    /// Rows of prefill and encoding among them.
    pub(crate) prefill_rows: usize,
    /// Rows whose logits are asked for.
    pub(crate) logits_rows: usize,
    /// Jobs that run at once; each may take a row and its logits in every step.
    pub(crate) running: usize,
    /// Fragments known at once.
    pub(crate) fragments: usize,
}

impl Budget {
    /// The operator's bounds within those of the model.
    ///
    /// # Panics
    /// When a bound is zero: nothing could ever run.
    pub(crate) fn new(shape: &ModelShape, config: &Config) -> Self {
        let budget = Self {
            rows: shape.batch_rows_max,
            prefill_rows: config.prefill_rows_per_step,
            logits_rows: shape.logits_rows_max,
            running: config.running_max.min(shape.batch_rows_max).min(shape.logits_rows_max),
            fragments: config.fragments_max,
        };
        assert!(
            budget.rows > 0 && budget.prefill_rows > 0 && budget.running > 0,
            "bounds of zero rows or sequences: nothing could run"
        );
        assert!(shape.page_rows > 0 && shape.pages > 0 && shape.vocab > 0, "an empty model");
        budget
    }
}

/// Rows of low priority in a step of `all` rows of prefill, of which more urgent work uses so many: all
/// that it gets, and as many as it is sure of, so that what is kept current in the background is.
pub(crate) fn low_rows(all: usize, used: usize) -> usize {
    LOW_ROWS_PER_STEP.max(used.min(all / LOW_SHARE))
}

/// Refuses more work than may wait.
pub(crate) fn check_queue(given: usize, limit: usize) -> Result<(), RequestError> {
    if given > limit { Err(RequestError::QueueFull { given, limit }) } else { Ok(()) }
}

//! The handle other threads hold: sends events to the loop thread and waits for answers.

use crate::{Event, FragmentId, FragmentInfo, FragmentSpec, Request, RequestError, Stats};
use models::{Model, ModelShape, Tokenizer};
use std::{sync::Arc, time::Duration};

/// Time as an input: monotonic time since some fixed moment.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Duration;
}

/// Bounds of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Generations that may wait for a place.
    pub waiting_max: usize,
    /// Generations that may run at once.
    pub running_max: usize,
    /// Rows of prefill and encoding in one step, beside the decodes.
    pub prefill_rows_per_step: usize,
    /// Fragments known at once; beyond it the least recently used unpinned ones are forgotten.
    pub fragments_max: usize,
}

/// Identity of a live generation in this engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// Receives a generation's events; answers `false` when its reader is gone, which cancels it.
pub type Sink = Box<dyn FnMut(Event) -> bool + Send>;

/// A running engine. Clones share it.
#[derive(Clone)]
pub struct Engine {
    shape: Arc<ModelShape>,
}

impl Engine {
    /// Starts the loop thread. `tokenizer` turns tokens into text; without one (the simulator)
    /// texts are empty and stop strings are refused.
    pub fn start(
        model: Box<dyn Model>,
        tokenizer: Option<Arc<Tokenizer>>,
        config: Config,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let _ = (tokenizer, config, clock);
        Self { shape: Arc::new(model.shape().clone()) }
    }

    /// The model's numbers.
    pub fn shape(&self) -> &ModelShape {
        &self.shape
    }

    /// Validates and queues a generation. Events go to `sink`, called on the loop thread.
    pub fn submit(&self, request: Request, sink: Sink) -> Result<SequenceId, RequestError> {
        let _ = (request, sink);
        unimplemented!()
    }

    /// Cancels a generation within one step; does nothing when it has ended.
    pub fn cancel(&self, sequence: SequenceId) {
        let _ = sequence;
        unimplemented!()
    }

    /// Encodes a fragment unless it is cached, and waits for it. Blocking.
    pub fn put_fragment(&self, spec: FragmentSpec) -> Result<FragmentInfo, RequestError> {
        let _ = spec;
        unimplemented!()
    }

    /// A fragment by id; with `digest`, hashes its KV bytes. Blocking.
    pub fn fragment(
        &self,
        tenant: &str,
        id: FragmentId,
        digest: bool,
    ) -> Result<FragmentInfo, RequestError> {
        let _ = (tenant, id, digest);
        unimplemented!()
    }

    /// All fragments of a tenant, most recently used first. Blocking.
    pub fn fragments(&self, tenant: &str) -> Result<Vec<FragmentInfo>, RequestError> {
        let _ = tenant;
        unimplemented!()
    }

    /// Forgets a fragment. Blocking.
    pub fn drop_fragment(&self, tenant: &str, id: FragmentId) -> Result<(), RequestError> {
        let _ = (tenant, id);
        unimplemented!()
    }

    /// The loop's numbers after its latest step.
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }

    /// The loop answered within `timeout`.
    pub fn is_alive(&self, timeout: Duration) -> bool {
        let _ = timeout;
        unimplemented!()
    }

    /// Refuses new work, lets running generations end for at most `grace`, cancels the rest, and
    /// stops the loop. Blocking.
    pub fn shutdown(&self, grace: Duration) {
        let _ = grace;
        unimplemented!()
    }
}

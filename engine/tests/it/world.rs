//! An engine driven step by step over the hash model, with readers that remember what they heard.

use crate::hash_model::{Given, HashModel, Memory};
use engine::{
    Clock, Composition, Config, Core, Engine, Event, FragmentInfo, FragmentSpec, JoinPolicy,
    Priority, Request, RequestError, Sampling, SequenceId, Tier,
};
use models::{ModelShape, TokenId};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Time that passes by one millisecond whenever someone looks.
#[derive(Default)]
pub(crate) struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// What one reader heard.
pub(crate) type Heard = Arc<Mutex<Vec<Event>>>;

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) core: Core,
    pub(crate) shape: ModelShape,
    /// What the model gave so far.
    pub(crate) given: Given,
    memory: Memory,
}

impl World {
    pub(crate) fn new(shape: ModelShape, config: Config) -> Self {
        Self::over(shape, config, None, None)
    }

    /// A world over a tier, whose model may offer choices of so many tokens.
    pub(crate) fn over(
        shape: ModelShape,
        config: Config,
        tier: Option<Box<dyn Tier>>,
        offers: Option<usize>,
    ) -> Self {
        let (mut model, memory) = HashModel::new(shape.clone());
        model.offers = offers;
        let given = model.given.clone();
        let clock = Arc::new(Ticks::default());
        let (engine, core) = Engine::stepwise(Box::new(model), None, config, clock, tier);
        Self { engine, core, shape, given, memory }
    }

    /// One step; then the books are checked, and what nobody owns becomes unreadable.
    pub(crate) fn step(&mut self) -> bool {
        let goes_on = self.core.step();
        self.core.check_integrity();
        self.memory.spoil(&self.core.pages_free());
        goes_on
    }

    /// Steps until nothing is left to do.
    pub(crate) fn finish(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the engine does not come to an end: {:?}", self.core.stats());
    }

    /// Submits with a reader that goes away after `patience` events.
    pub(crate) fn submit(
        &self,
        request: Request,
        patience: usize,
    ) -> Result<(SequenceId, Heard), RequestError> {
        let heard = Heard::default();
        let sink = heard.clone();
        let id = self.engine.submit(
            request,
            Box::new(move |event| {
                let mut events = sink.lock().unwrap();
                events.push(event);
                events.len() < patience
            }),
        )?;
        Ok((id, heard))
    }

    /// Runs one request to its end and returns all it said.
    pub(crate) fn answer(&mut self, request: Request) -> Vec<Event> {
        let (_, heard) = self.submit(request, usize::MAX).unwrap();
        self.finish();
        heard.lock().unwrap().clone()
    }

    /// Puts a fragment and steps until it is there.
    pub(crate) fn put(&mut self, root: &[TokenId], tokens: &[TokenId]) -> FragmentInfo {
        let answer = self.engine.begin_put(spec(root, tokens)).unwrap();
        self.finish();
        answer.recv().unwrap().unwrap()
    }

    /// The digest of a cached fragment's KV.
    pub(crate) fn digest(&mut self, info: &FragmentInfo) -> Option<[u8; 32]> {
        let answer = self.engine.begin_inspect("t", info.id, true).unwrap();
        self.finish();
        answer.recv().unwrap().unwrap().digest
    }
}

/// A small model.
pub(crate) fn shape(page_rows: usize, pages: usize) -> ModelShape {
    ModelShape {
        vocab: 40,
        context_max: 200,
        layers: crate::hash_model::LAYERS,
        page_rows,
        pages,
        page_bytes: 1,
        row_bytes: crate::hash_model::ROW_BYTES,
        batch_rows_max: 32,
        logits_rows_max: 8,
        fingerprint: [7; 32],
    }
}

pub(crate) const CONFIG: Config =
    Config { waiting_max: 8, running_max: 4, prefill_rows_per_step: 16, fragments_max: 100 };

pub(crate) const GREEDY: Sampling = Sampling {
    temperature: 0.0,
    top_p: 1.0,
    top_k: 0,
    min_p: 0.0,
    repetition_penalty: 1.0,
    presence_penalty: 0.0,
    frequency_penalty: 0.0,
    seed: 0,
    forced: Vec::new(),
};

pub(crate) fn spec(root: &[TokenId], tokens: &[TokenId]) -> FragmentSpec {
    FragmentSpec {
        tenant: "t".into(),
        root: root.into(),
        tokens: tokens.into(),
        pin: false,
        priority: Priority::Normal,
    }
}

/// A plain request of tenant `t`.
pub(crate) fn request(
    policy: JoinPolicy,
    root: &[TokenId],
    placements: &[&[TokenId]],
    tail: &[TokenId],
) -> Request {
    Request {
        tenant: "t".into(),
        composition: Composition {
            root: root.into(),
            placements: placements
                .iter()
                .map(|&tokens| Arc::<[TokenId]>::from(tokens).into())
                .collect(),
            tail: tail.into(),
        },
        policy,
        selected: None,
        sampling: GREEDY,
        stop_tokens: Vec::new(),
        stop_strings: Vec::new(),
        max_tokens: 6,
        logprobs: None,
        echo: false,
        priority: Priority::Normal,
        seal: None,
    }
}

//! The handle other threads hold: sends events to the loop thread and waits for answers.

use crate::{
    Core, Event, FragmentId, FragmentInfo, FragmentSpec, Placement, Request, RequestError, Stats,
    Swap,
    board::{Board, Message},
    fragments::{Content, identity},
    job::{Job, Reply},
    limits::{Budget, check_queue},
    runner::Runner,
    sequence::{Sequence, Stream},
    swap::Asked,
    tier::Tier,
    validate,
};
use models::{Model, ModelLost, ModelShape, TokenId, Tokenizer};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

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

impl Default for Config {
    fn default() -> Self {
        Self { waiting_max: 64, running_max: 8, prefill_rows_per_step: 256, fragments_max: 16_384 }
    }
}

/// Identity of a live generation in this engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// Receives a generation's events; answers `false` when its reader is gone, which cancels it.
pub type Sink = Box<dyn FnMut(Event) -> bool + Send>;

/// A running engine. Clones share it. When the last one is gone, the loop ends what runs and stops.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    shape: ModelShape,
    config: Config,
    tokenizer: Option<Arc<Tokenizer>>,
    clock: Arc<dyn Clock>,
    /// Unbounded, because what can be sent is bounded: generations by `waiting_max`, the rest by
    /// callers that wait for their answer.
    outbox: Sender<Message>,
    board: Arc<Board>,
    next_id: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Starts the loop thread. `tokenizer` turns tokens into text; without one (the simulator)
    /// texts are empty and stop strings are refused.
    ///
    /// # Panics
    /// When a bound of `config` or of the model is zero, or no thread can be started.
    pub fn start(
        model: Box<dyn Model>,
        tokenizer: Option<Arc<Tokenizer>>,
        config: Config,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self::start_over(model, tokenizer, config, clock, None)
    }

    /// The same over a tier that keeps KV beyond memory.
    ///
    /// # Panics
    /// As [`Engine::start`] does.
    pub fn start_over(
        model: Box<dyn Model>,
        tokenizer: Option<Arc<Tokenizer>>,
        config: Config,
        clock: Arc<dyn Clock>,
        tier: Option<Box<dyn Tier>>,
    ) -> Self {
        let (engine, core) = Self::stepwise(model, tokenizer, config, clock, tier);
        let board = engine.shared.board.clone();
        let thread = thread::Builder::new()
            .name("engine".into())
            .spawn(move || live(core, &board))
            .expect("a thread for the engine's loop");
        *engine.thread() = Some(thread);
        engine
    }

    /// An engine without a thread: nothing happens but in `Core::step`. The `begin_…` methods
    /// ask without waiting; the blocking ones would wait for ever on the stepping thread.
    ///
    /// # Panics
    /// When a bound of `config` or of the model is zero.
    pub fn stepwise(
        model: Box<dyn Model>,
        tokenizer: Option<Arc<Tokenizer>>,
        config: Config,
        clock: Arc<dyn Clock>,
        tier: Option<Box<dyn Tier>>,
    ) -> (Self, Core) {
        let shape = model.shape().clone();
        let budget = Budget::new(&shape, &config);
        let (outbox, inbox) = mpsc::channel();
        let board = Arc::new(Board::default());
        let runner = Runner::new(model, clock.clone());
        let core = Core::new(runner, budget, clock.clone(), inbox, board.clone(), tier);
        let next_id = AtomicU64::new(1);
        let thread = Mutex::new(None);
        let shared = Shared { shape, config, tokenizer, clock, outbox, board, next_id, thread };
        (Self { shared: Arc::new(shared) }, core)
    }

    /// The model's numbers.
    pub fn shape(&self) -> &ModelShape {
        &self.shared.shape
    }

    /// Validates and queues a generation. Events go to `sink`, called on the loop thread. Does
    /// not wait for the loop: a request that pinned fragments leave no room for is told so
    /// through `sink`, as are failures later on.
    ///
    /// # Errors
    /// The request is out of bounds, too many wait already, or the engine is down. `sink` then
    /// hears nothing.
    pub fn submit(&self, request: Request, sink: Sink) -> Result<SequenceId, RequestError> {
        let Shared { shape, config, tokenizer, clock, board, .. } = &*self.shared;
        board.check_open()?;
        validate::check_request(&request, shape, tokenizer.is_some())?;
        let tenant = request.tenant.clone();
        let sequence = Sequence::new(request, shape, tokenizer.clone(), clock.now());
        let mut job = Job::generate(self.next_id(), tenant, sequence);
        validate::check_alone(&job, shape)?;
        check_queue(board.enter(), config.waiting_max).inspect_err(|_| board.leave())?;
        job.listen(Stream::new(sink));
        let id = job.id;
        self.send(Message::Submit(Box::new(job)))?;
        Ok(id)
    }

    /// Cancels a generation within one step; does nothing when it has ended.
    pub fn cancel(&self, sequence: SequenceId) {
        // An engine that is down has cancelled everything.
        let _ = self.send(Message::Cancel(sequence));
    }

    /// Encodes a fragment unless it is cached, and waits for it. Blocking. A pin stays until the
    /// fragment is dropped, whatever later puts say.
    pub fn put_fragment(&self, spec: FragmentSpec) -> Result<FragmentInfo, RequestError> {
        self.wait(&self.begin_put(spec)?)
    }

    /// Asks for a fragment to be encoded; the answer comes through the channel.
    pub fn begin_put(
        &self,
        spec: FragmentSpec,
    ) -> Result<Receiver<Result<FragmentInfo, RequestError>>, RequestError> {
        let shape = &self.shared.shape;
        self.shared.board.check_open()?;
        validate::check_fragment(&spec, shape)?;
        self.begin(|reply| {
            let job = Job::put(self.next_id(), shape, spec, reply);
            validate::check_alone(&job, shape)?;
            Ok(Message::Submit(Box::new(job)))
        })
    }

    /// The id a fragment has, whether it was put or not.
    pub fn fragment_id(&self, tenant: &str, root: &[TokenId], tokens: &[TokenId]) -> FragmentId {
        identity(&self.shape().fingerprint, tenant, root, tokens)
    }

    /// The id of what is placed after `root`. It exists whether it is cached or not, but what is
    /// sealed can be placed only while it is, or a tier keeps it.
    pub fn placement_id(&self, tenant: &str, root: &[TokenId], placed: &Placement) -> FragmentId {
        let fingerprint = &self.shape().fingerprint;
        match &placed.sealed {
            None => identity(fingerprint, tenant, root, &placed.tokens),
            Some(sealed) => {
                let root = Content::root(fingerprint, &tenant.into(), &root.into());
                Content::sealed(fingerprint, &root, &placed.tokens, sealed).id
            }
        }
    }

    /// A fragment by id; with `digest`, hashes its KV bytes. Blocking.
    pub fn fragment(
        &self,
        tenant: &str,
        id: FragmentId,
        digest: bool,
    ) -> Result<FragmentInfo, RequestError> {
        self.wait(&self.begin_inspect(tenant, id, digest)?)
    }

    /// Asks for a fragment by id; the answer comes through the channel.
    pub fn begin_inspect(
        &self,
        tenant: &str,
        id: FragmentId,
        digest: bool,
    ) -> Result<Receiver<Result<FragmentInfo, RequestError>>, RequestError> {
        let tenant = tenant.into();
        self.begin(|reply| Ok(Message::Inspect { tenant, id, digest, reply }))
    }

    /// All fragments of a tenant, most recently used first. Blocking.
    pub fn fragments(&self, tenant: &str) -> Result<Vec<FragmentInfo>, RequestError> {
        let tenant = tenant.into();
        self.wait(&self.begin(|reply| Ok(Message::List { tenant, reply }))?)
    }

    /// Forgets a fragment. Blocking.
    pub fn drop_fragment(&self, tenant: &str, id: FragmentId) -> Result<(), RequestError> {
        self.wait(&self.begin_drop(tenant, id)?)
    }

    /// Asks for a fragment to be forgotten; the answer comes through the channel.
    pub fn begin_drop(
        &self,
        tenant: &str,
        id: FragmentId,
    ) -> Result<Receiver<Result<(), RequestError>>, RequestError> {
        let tenant = tenant.into();
        self.begin(|reply| Ok(Message::Drop { tenant, id, reply }))
    }

    /// Puts other fragments in the place of some of a running generation's, between two decode steps.
    /// The answer says how many tokens of its own the generation had then. Blocking.
    pub fn swap(&self, tenant: &str, swap: Swap) -> Result<usize, RequestError> {
        self.wait(&self.begin_swap(tenant, swap)?)
    }

    /// Asks for a swap; the answer comes through the channel.
    pub fn begin_swap(
        &self,
        tenant: &str,
        swap: Swap,
    ) -> Result<Receiver<Result<usize, RequestError>>, RequestError> {
        for tokens in &swap.with {
            validate::check_tokens("swap", tokens, &self.shared.shape)?;
        }
        let tenant = tenant.into();
        self.begin(|reply| Ok(Message::Swap(Asked { tenant, swap, reply })))
    }

    /// The loop's numbers after its latest step.
    pub fn stats(&self) -> Stats {
        self.shared.board.stats()
    }

    /// The loop answered within `timeout`.
    pub fn is_alive(&self, timeout: Duration) -> bool {
        self.begin(|reply| Ok(Message::Ping(reply)))
            .is_ok_and(|answer| matches!(answer.recv_timeout(timeout), Ok(Ok(()))))
    }

    /// Refuses new work, lets running generations end for at most `grace`, cancels the rest, and
    /// stops the loop. Blocking.
    pub fn shutdown(&self, grace: Duration) {
        self.shared.board.close();
        // A loop that has ended already needs no message.
        let _ = self.send(Message::Shutdown { grace });
        let thread = self.thread().take();
        if let Some(thread) = thread {
            thread.join().expect("the loop catches its panics");
        }
    }

    fn next_id(&self) -> SequenceId {
        SequenceId(self.shared.next_id.fetch_add(1, Ordering::Relaxed))
    }

    fn thread(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin<T>(
        &self,
        message: impl FnOnce(Reply<T>) -> Result<Message, RequestError>,
    ) -> Result<Receiver<Result<T, RequestError>>, RequestError> {
        let (reply, answer) = mpsc::channel();
        self.send(message(reply)?)?;
        Ok(answer)
    }

    fn send(&self, message: Message) -> Result<(), RequestError> {
        self.shared.outbox.send(message).map_err(|mut unsent| {
            if let Message::Submit(job) = &mut unsent.0
                && let Some(sequence) = job.sequence_mut()
            {
                sequence.stream.silence();
            }
            self.shared.board.down()
        })
    }

    /// A reply that was dropped unanswered means that the loop is gone.
    fn wait<T>(&self, answer: &Receiver<Result<T, RequestError>>) -> Result<T, RequestError> {
        answer.recv().unwrap_or_else(|_| Err(self.shared.board.down()))
    }
}

/// The loop's life on its thread. After a panic, or without its model, the books cannot be trusted: the engine is down
/// for good, and dropping the core tells every reader and every waiting caller.
fn live(mut core: Core, board: &Board) {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        core.run();
        core.close_tier();
    }));
    match lived {
        Ok(()) => board.fail("it was shut down"),
        Err(panic) => {
            let reason = reason(&*panic);
            tracing::error!(reason, "the engine's loop ended");
            board.fail(&reason);
        }
    }
    drop(core);
}

/// Why the loop unwound.
fn reason(told: &(dyn Any + Send)) -> String {
    if let Some(ModelLost(reason)) = told.downcast_ref() {
        return format!("the model is lost: {reason}");
    }
    let text = told.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| told.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
    format!("its loop panicked: {text}")
}

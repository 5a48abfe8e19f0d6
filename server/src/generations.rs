//! Generations: each a log of what the engine said, read live, later, or again from any place.
//!
//! The engine's loop thread appends; readers wait on the log's length. A generation that is not in
//! the background is cancelled when its last [`Reader`] goes away. Ended generations are kept
//! within bounds of number, age and size.

use crate::{
    ApiError, Binding, FragmentUse, Metrics, Snapshot, Swapped, Tenant, Time,
    limits::{GENERATION_RETENTION, GENERATIONS_BYTES_MAX, GENERATIONS_MAX},
    live::Live,
    random_id,
};
use engine::{Engine, Event, JoinPolicy, Request, RequestError, SequenceId, Summary, TokenLogprob};
use models::TokenId;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// One line of a generation's log: `Created`, `Scored?`, `Token*`, `Text?`, then `Finished` or
/// `Failed`. Its index in the log is its sequence number.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// The engine took the request.
    Created,
    /// The tail's scores, with `echo`.
    Scored {
        /// Scores of `tail[1..]`.
        tail: Vec<TokenLogprob>,
        /// The most likely next tokens.
        next_top: Vec<(TokenId, f32)>,
    },
    /// One token of the answer.
    Token {
        /// The token.
        token: TokenId,
        /// Text it completes; may be empty.
        text: String,
        /// Scores, when asked for.
        logprob: Option<TokenLogprob>,
    },
    /// Text held back until the end; comes with no token.
    Text(String),
    /// A newer version of a side context stands in the composition since the answer has `at` tokens.
    Swapped {
        /// What took place.
        swapped: Swapped,
        /// Tokens of the answer that were there before.
        at: usize,
    },
    /// After a swap the generation had to wait: tail and answer are computed again, over what stands
    /// in the composition now.
    Restarted {
        /// Tokens of the answer that were there before.
        at: usize,
    },
    /// The end.
    Finished(Summary),
    /// The end of a generation that could not go on.
    Failed(RequestError),
}

impl Entry {
    /// Nothing follows it.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Finished(_) | Self::Failed(_))
    }

    /// Memory it takes, roughly.
    fn bytes(&self) -> usize {
        let score = |score: &TokenLogprob| size_of_val(score) + size_of_val(&*score.top);
        let held = match self {
            Self::Scored { tail, next_top } => {
                tail.iter().map(score).sum::<usize>() + size_of_val(&**next_top)
            }
            Self::Token { text, logprob, .. } => text.len() + logprob.as_ref().map_or(0, score),
            Self::Text(text) => text.len(),
            Self::Swapped { swapped, .. } => swapped.bytes(),
            Self::Created | Self::Restarted { .. } | Self::Finished(_) | Self::Failed(_) => 0,
        };
        size_of::<Self>() + held
    }
}

/// How a generation is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Goes on when nobody reads.
    pub background: bool,
    /// The tail ends in a turn of the model's, which the answer fills.
    pub opens_turn: bool,
    /// What stood in the composition, for the result.
    pub fragments: Vec<FragmentUse>,
    /// Side contexts in it that are kept current while it runs.
    pub bindings: Vec<Binding>,
}

/// One generation.
pub struct Generation {
    /// `gen_..`; unguessable.
    pub id: String,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// When it was asked for, since the Unix epoch.
    pub began: Duration,
    /// Goes on when nobody reads.
    pub background: bool,
    /// The seed it was run with: enough, with the request, to run it again to the token.
    pub seed: u64,
    /// The policy asked for.
    pub policy: JoinPolicy,
    /// Log-probabilities were asked for, with this many alternatives.
    pub logprobs: Option<usize>,
    /// Tokens of root, fragments and tail.
    pub prompt_tokens: usize,
    request: Request,
    opens_turn: bool,
    live: Live,
    /// What stood in the composition when it began.
    pub fragments: Vec<FragmentUse>,
    /// What of that follows a side context.
    pub bindings: Vec<Binding>,
    log: Mutex<Vec<Arc<Entry>>>,
    length: watch::Sender<usize>,
    ended: AtomicBool,
    readers: AtomicUsize,
    bytes: AtomicUsize,
    engine: Engine,
    sequence: OnceLock<SequenceId>,
    /// Rows that its policy chose to compute again.
    chosen: OnceLock<Arc<[u32]>>,
}

impl Generation {
    /// As it stands.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::fold(&lock(&self.log))
    }

    /// What was asked for.
    pub fn request(&self) -> &Request {
        &self.request
    }

    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    pub(crate) fn sequence(&self) -> Option<SequenceId> {
        self.sequence.get().copied()
    }

    /// The answer fills a turn of the model's.
    pub fn opens_turn(&self) -> bool {
        self.opens_turn
    }

    /// Rows that its policy chose to compute again, once it has.
    pub fn chosen(&self) -> Option<Arc<[u32]>> {
        self.chosen.get().cloned()
    }

    /// Its log has its last entry.
    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Asks the engine to end it within a step; does nothing when it has ended.
    pub fn cancel(&self) {
        if let Some(sequence) = self.sequence.get() {
            self.engine.cancel(*sequence);
        }
    }

    /// Its last entry so far.
    fn last(&self) -> Arc<Entry> {
        Arc::clone(lock(&self.log).last().expect("a log begins with `Created`"))
    }

    fn append(&self, entry: Entry) {
        let end = entry.is_end();
        self.bytes.fetch_add(entry.bytes(), Ordering::Relaxed);
        let length = {
            let mut log = lock(&self.log);
            log.push(Arc::new(entry));
            log.len()
        };
        if end {
            self.ended.store(true, Ordering::Release);
        }
        self.length.send_replace(length);
    }

    /// Takes what the engine says; now, since the Unix epoch.
    fn receive(&self, event: Event, now: Duration) {
        match event {
            Event::Swapped { at, .. } => {
                if let Some(swapped) = self.live.swapped(now) {
                    self.append(Entry::Swapped { swapped, at });
                }
            }
            Event::Restarted { at } => self.append(Entry::Restarted { at }),
            Event::Chosen { selected } => drop(self.chosen.set(selected)),
            Event::Scored { tail, next_top } => self.append(Entry::Scored { tail, next_top }),
            Event::Token { token, text, logprob } => {
                self.append(Entry::Token { token, text, logprob });
            }
            Event::Finished { text, summary } => {
                if !text.is_empty() {
                    self.append(Entry::Text(text));
                }
                self.append(Entry::Finished(summary));
            }
            Event::Failed(error) => self.append(Entry::Failed(error)),
        }
    }
}

/// Reads a generation's log from some place on.
pub struct Reader {
    generation: Arc<Generation>,
    length: watch::Receiver<usize>,
    next: usize,
}

impl Reader {
    /// A reader that begins at entry `next`.
    pub fn attach(generation: Arc<Generation>, next: usize) -> Self {
        generation.readers.fetch_add(1, Ordering::AcqRel);
        let length = generation.length.subscribe();
        Self { generation, length, next }
    }

    /// What it reads.
    pub fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// Waits for the next entry; gives its sequence number with it. `None` after the last.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<(usize, Arc<Entry>)> {
        loop {
            self.length.borrow_and_update();
            // Read before the log: what ended before this look is in the log.
            let ended = self.generation.is_ended();
            let entry = lock(&self.generation.log).get(self.next).cloned();
            if let Some(entry) = entry {
                self.next += 1;
                return Some((self.next - 1, entry));
            }
            if ended || self.length.changed().await.is_err() {
                return None;
            }
        }
    }

    /// Waits for the end.
    pub async fn finish(mut self) -> Snapshot {
        // The log may be long, and only its end matters here.
        while !self.generation.is_ended() && self.length.changed().await.is_ok() {}
        self.generation.snapshot()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let last = self.generation.readers.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && !self.generation.background && !self.generation.is_ended() {
            self.generation.cancel();
        }
    }
}

/// All generations of a server.
pub struct Generations {
    engine: Engine,
    time: Time,
    metrics: Arc<Metrics>,
    store: Arc<Mutex<Store>>,
}

impl Generations {
    pub(crate) fn new(engine: Engine, time: Time, metrics: Arc<Metrics>) -> Self {
        Self { engine, time, metrics, store: Arc::default() }
    }

    /// Hands a request to the engine. The generation lives as long as the reader does, or, in the
    /// background, until it ends by itself.
    pub fn start(&self, request: Request, options: Options) -> Result<Reader, ApiError> {
        let composition = &request.composition;
        let placed = composition.placements.iter().map(|placed| placed.tokens.len()).sum::<usize>();
        let generation = Arc::new(Generation {
            id: random_id("gen_"),
            tenant: Arc::clone(&request.tenant),
            began: self.time.unix(),
            background: options.background,
            seed: request.sampling.seed,
            policy: request.policy,
            logprobs: request.logprobs,
            prompt_tokens: composition.root.len() + placed + composition.tail.len(),
            request: request.clone(),
            opens_turn: options.opens_turn,
            live: Live::new(options.bindings.clone()),
            fragments: options.fragments,
            bindings: options.bindings,
            log: Mutex::default(),
            length: watch::Sender::new(0),
            ended: AtomicBool::new(false),
            readers: AtomicUsize::new(0),
            bytes: AtomicUsize::new(size_of_val(&*composition.tail)),
            engine: self.engine.clone(),
            sequence: OnceLock::new(),
            chosen: OnceLock::new(),
        });
        generation.append(Entry::Created);
        let feed = Feed {
            generation: Arc::clone(&generation),
            metrics: Arc::clone(&self.metrics),
            store: Arc::clone(&self.store),
            time: self.time.clone(),
        };
        lock(&self.store).insert(Arc::clone(&generation), self.time.now());
        // The engine owns the feed from here; should it refuse, dropping the feed ends the log.
        let sink = Box::new(move |event| {
            feed.generation.receive(event, feed.time.unix());
            // Who goes away says so by `cancel`; the end is wanted in the log all the same.
            true
        });
        let submitted = self.engine.submit(request, sink);
        match submitted {
            Ok(sequence) => {
                generation.sequence.set(sequence).expect("the sequence is set once");
                Ok(Reader::attach(generation, 0))
            }
            Err(error) => {
                lock(&self.store).remove(&generation.id);
                Err(error.into())
            }
        }
    }

    /// Running generations that read side contexts live.
    pub(crate) fn live(&self) -> Vec<Arc<Generation>> {
        let store = lock(&self.store);
        let running = store.by_id.values().filter(|generation| !generation.is_ended());
        running.filter(|generation| !generation.live.is_idle()).cloned().collect()
    }

    /// A generation of this tenant.
    pub fn get(&self, tenant: &Tenant, id: &str) -> Result<Arc<Generation>, ApiError> {
        let mut store = lock(&self.store);
        store.expire(self.time.now());
        let found = store.by_id.get(id).filter(|generation| generation.tenant == tenant.0);
        found.cloned().ok_or_else(|| {
            let minutes = GENERATION_RETENTION.as_secs() / 60;
            let message = format!(
                "no generation {id:?}; ended ones are kept for {minutes} minutes, \
                 {GENERATIONS_MAX} at most"
            );
            ApiError::not_found(message).with_code("generation_not_found")
        })
    }
}

/// The loop thread's end of a generation: appends, and makes sure that there is an end.
struct Feed {
    generation: Arc<Generation>,
    metrics: Arc<Metrics>,
    store: Arc<Mutex<Store>>,
    time: Time,
}

impl Drop for Feed {
    fn drop(&mut self) {
        let is_refused = !self.generation.is_ended() && self.generation.sequence.get().is_none();
        if !self.generation.is_ended() {
            let error = RequestError::EngineDown("it stopped before the answer ended".to_owned());
            self.generation.append(Entry::Failed(error));
        }
        match &*self.generation.last() {
            Entry::Finished(summary) => self.metrics.generation(summary),
            // The client was told, and nothing had begun.
            _ if is_refused => {}
            _ => self.metrics.failed_generation(),
        }
        lock(&self.store).end(&self.generation, self.time.now());
    }
}

/// Running and ended generations by id, and the order the latter ended in.
#[derive(Default)]
struct Store {
    by_id: HashMap<String, Arc<Generation>>,
    ended: VecDeque<(Duration, String, usize)>,
    ended_bytes: usize,
}

impl Store {
    fn insert(&mut self, generation: Arc<Generation>, now: Duration) {
        self.expire(now);
        self.by_id.insert(generation.id.clone(), generation);
    }

    fn remove(&mut self, id: &str) {
        self.by_id.remove(id);
    }

    fn end(&mut self, generation: &Generation, now: Duration) {
        if self.by_id.contains_key(&generation.id) {
            let bytes = generation.bytes.load(Ordering::Relaxed);
            self.ended_bytes += bytes;
            self.ended.push_back((now, generation.id.clone(), bytes));
        }
        self.expire(now);
    }

    fn expire(&mut self, now: Duration) {
        while let Some((at, id, bytes)) = self.ended.front() {
            let over = self.ended.len() > GENERATIONS_MAX
                || self.ended_bytes > GENERATIONS_BYTES_MAX
                || now.saturating_sub(*at) > GENERATION_RETENTION;
            if !over {
                break;
            }
            self.by_id.remove(id);
            self.ended_bytes -= bytes;
            self.ended.pop_front();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here panics half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

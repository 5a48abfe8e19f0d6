//! Live bindings: a running generation reads the newest version of a side context.
//!
//! Each generation has at most one swap under way. Its fragments are encoded first, beside the decodes
//! (by upkeep, as a rule); the engine then puts them in the place of the old ones between two steps, and
//! says at which token. No lock is held while the engine is asked: it answers on its own thread, which
//! takes the same lock.

use crate::{
    AppState, FragmentUse, Generation, blocking,
    limits::SIDE_UPKEEP_INTERVAL,
    side::{SideContext, encode},
    standing::placed_pieces,
};
use engine::{Placement, RequestError, Swap};
use models::TokenId;
use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::Receiver},
    time::Duration,
};

/// A side context as a composition reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// `sc_..`.
    pub side: String,
    /// What its pieces are encoded after.
    pub root: Arc<[TokenId]>,
    /// Its first piece among the placements.
    pub start: usize,
    /// Its pieces there now.
    pub pieces: usize,
    /// The version that stands there.
    pub version: u64,
}

/// A swap that took place.
#[derive(Clone, Debug, PartialEq)]
pub struct Swapped {
    /// The side context.
    pub side: String,
    /// The version that stands there from then on.
    pub version: u64,
    /// Placements that went.
    pub range: Range<usize>,
    /// Those that came in their place.
    pub placed: Vec<(Placement, FragmentUse)>,
    /// How long ago it had changed.
    pub age: Duration,
}

impl Swapped {
    /// Tokens of what came.
    pub fn tokens(&self) -> usize {
        self.placed.iter().map(|(_, used)| used.tokens).sum()
    }

    /// Memory it takes besides its own size, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.side.len() + size_of_val(&*self.placed) + self.tokens() * size_of::<TokenId>()
    }
}

/// Books that a side context's placements are `pieces` of a version now; what stands behind them moves.
pub(crate) fn rebind(bindings: &mut [Binding], (side, version): (&str, u64), pieces: usize) {
    let Some(bound) = bindings.iter_mut().find(|binding| binding.side == side) else { return };
    let before = std::mem::replace(&mut bound.pieces, pieces);
    bound.version = version;
    let start = bound.start;
    for later in bindings.iter_mut().filter(|later| later.start > start) {
        later.start = later.start + pieces - before;
    }
}

/// What one generation reads live.
#[derive(Debug, Default)]
pub(crate) struct Live(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    bindings: Vec<Binding>,
    under_way: Option<UnderWay>,
    /// What upkeep had encoded was not there any more.
    is_evicted: bool,
    /// What is newest is being encoded for it.
    is_encoding: bool,
}

#[derive(Debug)]
struct UnderWay {
    side: String,
    version: u64,
    range: Range<usize>,
    placed: Vec<(Placement, FragmentUse)>,
    /// Since the Unix epoch.
    changed: Duration,
    /// None while the engine is being asked.
    answer: Option<Receiver<Result<usize, RequestError>>>,
}

impl Live {
    pub(crate) fn new(bindings: Vec<Binding>) -> Self {
        Self(Mutex::new(Books { bindings, ..Books::default() }))
    }

    /// It reads nothing live, or nothing any more.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().bindings.is_empty()
    }

    /// The engine made the swap that was under way; now, since the Unix epoch.
    pub(crate) fn swapped(&self, now: Duration) -> Option<Swapped> {
        let mut books = self.lock();
        let UnderWay { side, version, range, placed, changed, .. } = books.under_way.take()?;
        rebind(&mut books.bindings, (&side, version), placed.len());
        Some(Swapped { side, version, range, placed, age: now.saturating_sub(changed) })
    }

    /// Whether a swap may be asked for now; hears what became of the last.
    fn is_open(&self) -> bool {
        let mut books = self.lock();
        let answer = books.under_way.as_ref().and_then(|asked| asked.answer.as_ref());
        match answer.map(Receiver::try_recv) {
            // Evicted since, too long for what was said so far, or for where it waits: later.
            Some(Ok(Err(
                error @ (RequestError::NotCached(_)
                | RequestError::ContextTooLong { .. }
                | RequestError::OutOfRange { .. }),
            ))) => {
                books.under_way = None;
                books.is_evicted = matches!(error, RequestError::NotCached(_));
            }
            Some(Ok(Err(error))) => {
                tracing::debug!(%error, "a live binding ends");
                *books = Books::default();
            }
            // What was done was told by an event.
            None | Some(_) => {}
        }
        books.under_way.is_none() && !books.is_encoding && !books.bindings.is_empty()
    }

    fn take_evicted(&self) -> bool {
        std::mem::take(&mut self.lock().is_evicted)
    }

    fn bindings(&self) -> Vec<Binding> {
        self.lock().bindings.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // Nothing here panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for the swaps that are due, for ever.
pub(crate) async fn keep_current(state: Arc<AppState>) {
    loop {
        let renewed = state.side_contexts.renewed().notified();
        // No newer version may be there, and what was asked for before be done or refused.
        let _ = tokio::time::timeout(SIDE_UPKEEP_INTERVAL, renewed).await;
        let state = Arc::clone(&state);
        let kept = blocking(move || {
            keep_all(&state);
            Ok(())
        });
        if let Err(error) = kept.await {
            tracing::debug!(%error, "live bindings were not kept");
        }
    }
}

/// Blocking.
fn keep_all(state: &Arc<AppState>) {
    for generation in state.generations.live() {
        if generation.live().is_open()
            && let Err(error) = keep_one(state, &generation)
        {
            tracing::debug!(%error, "a live binding was not kept");
        }
    }
}

fn keep_one(state: &Arc<AppState>, generation: &Arc<Generation>) -> Result<(), RequestError> {
    let live = generation.live();
    for binding in live.bindings() {
        // It may have been deleted since: then the generation keeps what it has.
        let Ok(context) = state.side_contexts.get(&generation.tenant, &binding.side) else {
            continue;
        };
        if context.version == binding.version {
            continue;
        }
        let is_kept_there = context.root.as_ref() == Some(&binding.root);
        if is_kept_there && !live.take_evicted() {
            if context.encoded == Some(context.version) {
                return ask(state, generation, &binding, &context);
            }
            // Upkeep is at it.
            continue;
        }
        live.lock().is_encoding = true;
        let (state, generation) = (Arc::clone(state), Arc::clone(generation));
        // Others do not wait for it.
        tokio::task::spawn_blocking(move || {
            encode_and_ask(&state, &generation, &binding, &context);
        });
        return Ok(());
    }
    Ok(())
}

/// Encodes what is newest where this generation needs it, then asks for the swap. Blocking.
fn encode_and_ask(
    state: &AppState,
    generation: &Generation,
    binding: &Binding,
    context: &SideContext,
) {
    let mut pieces = context.placed();
    let encoded = pieces
        .try_for_each(|piece| encode(state, &generation.tenant, &binding.root, &piece.tokens));
    let asked = encoded.and_then(|()| ask(state, generation, binding, context));
    generation.live().lock().is_encoding = false;
    if let Err(error) = asked {
        tracing::debug!(%error, "a live binding was not kept");
    }
}

fn ask(
    state: &AppState,
    generation: &Generation,
    binding: &Binding,
    context: &SideContext,
) -> Result<(), RequestError> {
    // A generation that decodes has a sequence.
    let Some(sequence) = generation.sequence() else { return Ok(()) };
    let placed = placed_pieces(state, &generation.tenant, &binding.root, context);
    let with: Vec<_> = placed.iter().map(|(placed, _)| Arc::clone(&placed.tokens)).collect();
    let range: Range<usize> = binding.start..binding.start + binding.pieces;
    let live = generation.live();
    live.lock().under_way = Some(UnderWay {
        side: binding.side.clone(),
        version: context.version,
        range: range.clone(),
        placed,
        changed: context.changed,
        answer: None,
    });
    let answer = state.engine.begin_swap(&generation.tenant, Swap { sequence, range, with });
    let mut books = live.lock();
    match answer {
        Ok(answer) => {
            // Unless it is done already.
            if let Some(asked) = &mut books.under_way {
                asked.answer = Some(answer);
            }
            Ok(())
        }
        Err(error) => {
            books.under_way = None;
            Err(error)
        }
    }
}

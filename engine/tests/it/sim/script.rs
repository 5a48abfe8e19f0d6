//! One simulated life of an engine.

use super::{chance::Chance, shelf::Shelf};
use crate::{
    hash_model::{LAYERS, ROW_BYTES},
    oracle::{self, Answer, Turn},
    world::{GREEDY, Heard, Ticks, World},
};
use engine::{
    Composition, Config, Event, FinishReason, FragmentId, FragmentInfo, FragmentSpec, Host,
    JoinPolicy, Layered, Placement, Priority, Request, RequestError, Sampling, Seal, Sealed,
    SequenceId, Stats, Swap, Tier,
};
use models::{ModelShape, TokenId};
use std::sync::{Arc, mpsc::Receiver};

/// What the runs went through; a simulator that never evicts tests nothing.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    stats: Stats,
    answers: usize,
    cancelled: usize,
    refused: usize,
    digests: usize,
    crashes: usize,
    /// Fetches of records that a tier had not told of, that brought something and that did not.
    unlisted: [usize; 2],
    /// Of lives with a tier in memory: tokens loaded where there was no other, records it gave up
    /// and had no room for.
    host: [usize; 3],
    swaps: usize,
    /// Of them, of generations that waited for their place.
    composed_anew: usize,
    restarts: usize,
    /// Forks of swapped generations, over less than all that was swapped in and over some of it.
    forks_of_swapped: [usize; 2],
    /// Sealed fragments made, placed, asked for in vain, and placed after a crash.
    sealed: [usize; 4],
    /// Fetches of sealed fragments from a tier, that brought something and that did not.
    sealed_fetched: [usize; 2],
    /// Rows that models which offer choices gave, and choices.
    given: [usize; 2],
}

impl Pressure {
    pub(super) fn add(&mut self, other: &Self) {
        self.add_stats(&other.stats);
        self.crashes += other.crashes;
        self.swaps += other.swaps;
        self.composed_anew += other.composed_anew;
        self.restarts += other.restarts;
        let forks = self.forks_of_swapped.iter_mut().zip(other.forks_of_swapped);
        forks.for_each(|(to, from)| *to += from);
        self.answers += other.answers;
        self.cancelled += other.cancelled;
        self.refused += other.refused;
        self.digests += other.digests;
        self.unlisted.iter_mut().zip(other.unlisted).for_each(|(to, from)| *to += from);
        self.host.iter_mut().zip(other.host).for_each(|(to, from)| *to += from);
        self.sealed.iter_mut().zip(other.sealed).for_each(|(to, from)| *to += from);
        self.given.iter_mut().zip(other.given).for_each(|(to, from)| *to += from);
        let fetched = self.sealed_fetched.iter_mut().zip(other.sealed_fetched);
        fetched.for_each(|(to, from)| *to += from);
    }

    fn add_stats(&mut self, other: &Stats) {
        self.stats.steps += other.steps;
        self.stats.evictions += other.evictions;
        self.stats.preemptions += other.preemptions;
        self.stats.rows_adopted += other.rows_adopted;
        self.stats.rows_copied += other.rows_copied;
        self.stats.tokens_loaded += other.tokens_loaded;
        self.stats.tokens_reused += other.tokens_reused;
        self.stats.tokens_repaired += other.tokens_repaired;
        self.stats.tokens_scored += other.tokens_scored;
        self.stats.tokens_prefix_reused += other.tokens_prefix_reused;
        self.stats.tokens_generated += other.tokens_generated;
        self.stats.generations_ended += other.generations_ended;
    }

    pub(super) fn check(&self) {
        let Stats { evictions, preemptions, tokens_reused, tokens_prefix_reused, .. } = self.stats;
        let Stats { tokens_repaired, tokens_scored, .. } = self.stats;
        assert!(tokens_repaired > 10_000 && tokens_scored > 10_000, "no repairs: {self:?}");
        assert!(self.stats.tokens_loaded > 5_000 && self.crashes > 500, "no tier: {self:?}");
        let [found, missed] = self.unlisted;
        assert!(found > 500 && missed > 5_000, "no unlisted records: {self:?}");
        let [loaded, evicted, no_room] = self.host;
        assert!(loaded > 5_000 && evicted > 5_000 && no_room > 500, "no memory: {self:?}");
        assert!(self.swaps > 300 && self.restarts > 10, "no swaps: {self:?}");
        assert!(self.composed_anew > 30, "no swaps of what waited: {self:?}");
        let [left, followed] = self.forks_of_swapped;
        assert!(left > 50 && followed > 50, "no forks of what was swapped: {self:?}");
        let Stats { rows_adopted, rows_copied, .. } = self.stats;
        assert!(rows_adopted > 2_000 && rows_copied > 500, "no forks: {self:?}");
        assert!(evictions > 1_000 && preemptions > 300, "no pressure: {self:?}");
        assert!(tokens_reused > 10_000 && tokens_prefix_reused > 10_000, "no reuse: {self:?}");
        assert!(self.answers > 10_000 && self.cancelled > 500, "no answers: {self:?}");
        assert!(self.refused > 500 && self.digests > 500, "no refusals or digests: {self:?}");
        let [made, placed, gone, back] = self.sealed;
        assert!(made > 1_000 && placed > 500 && gone > 50, "nothing sealed: {self:?}");
        let [brought, lost] = self.sealed_fetched;
        assert!(back > 200 && brought > 100 && lost > 15, "nothing sealed came back: {self:?}");
        let [rows, choices] = self.given;
        assert!(rows > 5_000 && choices > 20_000, "no choices, or nothing else: {self:?}");
    }
}

/// A generation under way.
struct Live {
    id: SequenceId,
    request: Request,
    heard: Heard,
    patience: usize,
    cancelled: bool,
    /// It places what was sealed before the latest crash.
    is_over_old: bool,
}

/// What became of a generation.
enum Fate {
    Goes,
    Over,
    /// Over, and its tail and this answer are a fragment.
    Sealed(FragmentId, Vec<TokenId>),
}

type Asked<T> = Receiver<Result<T, RequestError>>;

pub(super) struct Sim {
    world: World,
    config: Config,
    tier: Option<Shelf>,
    /// Bytes of a tier in memory, which stands before the other where there are both.
    host_bytes: Option<u64>,
    /// The model offers choices of so many tokens.
    offers: Option<usize>,
    chance: Chance,
    tenants: Vec<Arc<str>>,
    roots: Vec<Arc<[TokenId]>>,
    texts: Vec<Arc<[TokenId]>>,
    live: Vec<Live>,
    puts: Vec<(FragmentSpec, Asked<FragmentInfo>)>,
    inspections: Vec<Asked<FragmentInfo>>,
    drops: Vec<Asked<()>>,
    swaps: Vec<Asked<usize>>,
    known: Vec<(Arc<str>, FragmentId)>,
    /// What was sealed, and whose it is, after which root.
    shelf: Vec<(Placement, Vec<oracle::Row>)>,
    shelf_of: Vec<(Arc<str>, Arc<[TokenId]>)>,
    /// So many of them were sealed before the latest crash.
    shelf_old: usize,
    pressure: Pressure,
}

impl Sim {
    /// One life: random calls and steps, then all work to its end.
    pub(super) fn run(seed: u64) -> Pressure {
        let mut sim = Self::new(seed);
        for _ in 0..80 {
            sim.act();
            sim.settle();
            if sim.tier.is_some() && sim.chance.one_in(60) {
                sim.crash();
            }
        }
        sim.world.finish();
        sim.settle();
        sim.end()
    }

    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let vocab = chance.within(4, 30);
        let shape = ModelShape {
            vocab,
            context_max: chance.within(20, 70),
            layers: LAYERS,
            page_rows: chance.within(1, 8),
            pages: *chance.pick(&[4, 8, 12, 16, 20, 24, 32, 64]),
            page_bytes: 1,
            row_bytes: ROW_BYTES,
            batch_rows_max: chance.within(1, 40),
            logits_rows_max: chance.within(1, 8),
            fingerprint: [seed as u8; 32],
        };
        let config = Config {
            waiting_max: chance.within(1, 16),
            running_max: chance.within(1, 8),
            prefill_rows_per_step: chance.within(1, 20),
            fragments_max: chance.within(1, 16),
        };
        let roots = (0..3).map(|_| chance.tokens(1, 6, vocab)).collect();
        let texts = (0..8).map(|_| chance.tokens(1, 12, vocab)).collect();
        // Half of the lives have a tier.
        let tier = chance.one_in(2).then(|| Shelf::new(seed));
        // And half of these and of the others one in memory.
        let host_bytes = host_bytes(seed);
        // Half of them a model that keeps its logits.
        let offers = seed.is_multiple_of(2).then_some((seed / 2 % 8) as usize);
        Self {
            world: World::over(shape, config, open(host_bytes, tier.as_ref()), offers),
            config,
            tier,
            host_bytes,
            offers,
            tenants: vec!["a".into(), "b".into()],
            roots,
            texts,
            chance,
            live: Vec::new(),
            puts: Vec::new(),
            inspections: Vec::new(),
            drops: Vec::new(),
            swaps: Vec::new(),
            known: Vec::new(),
            shelf: Vec::new(),
            shelf_of: Vec::new(),
            shelf_old: 0,
            pressure: Pressure::default(),
        }
    }

    /// One random call, then a few steps.
    fn act(&mut self) {
        match self.chance.below(13) {
            11 | 12 => self.swap(),
            0..=4 => self.submit(),
            10 => self.fork(),
            5 | 6 => self.put(),
            7 => self.cancel(),
            8 => self.drop_fragment(),
            _ => self.inspect(),
        }
        for _ in 0..self.chance.below(10) {
            self.world.step();
        }
        let host = self.world.core.stats().tier_host;
        assert!(host.bytes <= self.host_bytes.unwrap_or(0), "more than its budget: {host:?}");
    }

    /// The process ends at once, and another one begins over what its tier kept.
    fn crash(&mut self) {
        let shelf = self.tier.as_ref().expect("only a shelf outlives a process");
        shelf.forget_notices();
        let (shape, tier) = (self.world.shape.clone(), open(self.host_bytes, Some(shelf)));
        self.add_process();
        self.world = World::over(shape, self.config, tier, self.offers);
        let lost = |event: &Event| matches!(event, Event::Failed(RequestError::EngineDown(_)));
        for live in self.live.drain(..) {
            let events = live.heard.lock().unwrap();
            let is_told = events.last().is_some_and(lost) || events.len() >= live.patience;
            let is_over = events
                .last()
                .is_some_and(|e| matches!(e, Event::Finished { .. } | Event::Failed(_)));
            assert!(is_told || is_over, "a reader was left without a word: {events:?}");
        }
        self.puts.clear();
        self.inspections.clear();
        self.drops.clear();
        self.swaps.clear();
        self.forget_sealed();
        self.pressure.crashes += 1;
    }

    /// Of what was sealed, what the tier does not hold is no more: some of it is asked for all the same.
    fn forget_sealed(&mut self) {
        let Self { tier, world, chance, shelf, shelf_of, shelf_old, .. } = self;
        let tier = tier.as_ref().expect("only a tier outlives a process");
        for (sealed, of) in std::mem::take(shelf).into_iter().zip(std::mem::take(shelf_of)) {
            let id = world.engine.placement_id(&of.0, &of.1, &sealed.0);
            if tier.holds(id) || chance.one_in(4) {
                shelf.push(sealed);
                shelf_of.push(of);
            }
        }
        *shelf_old = shelf.len();
    }

    /// Adds up what a process did.
    fn add_process(&mut self) {
        let stats = self.world.core.stats();
        self.pressure.add_stats(&stats);
        let loaded = if self.tier.is_none() { stats.tokens_loaded } else { 0 };
        let host = [loaded, stats.tier_host.evicted, stats.tier_host.refused];
        self.pressure.host.iter_mut().zip(host).for_each(|(to, from)| *to += from as usize);
        if self.offers.is_some() {
            let given = self.world.given.counts();
            self.pressure.given.iter_mut().zip(given).for_each(|(to, from)| *to += from);
        }
    }

    fn submit(&mut self) {
        let request = self.request();
        let patience = if self.chance.one_in(10) { self.chance.within(1, 4) } else { usize::MAX };
        self.begin(request, patience);
    }

    fn begin(&mut self, request: Request, patience: usize) {
        match self.world.submit(request.clone(), patience) {
            Ok((id, heard)) => {
                let old = &self.shelf[..self.shelf_old];
                let is_old = |placed| old.iter().any(|(sealed, _)| sealed == placed);
                let is_over_old = request.composition.placements.iter().any(is_old);
                let cancelled = false;
                self.live.push(Live { id, request, heard, patience, cancelled, is_over_old });
            }
            Err(error) => self.refuse(&error),
        }
    }

    /// Goes on from a token of a generation, in another way.
    fn fork(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let live = &self.live[self.chance.below(self.live.len())];
        let mut request = live.request.clone();
        let events = live.heard.lock().unwrap().clone();
        let is_token = |event: &&Event| matches!(event, Event::Token { .. });
        let tokens = events.iter().filter(is_token).count();
        let at = if self.chance.one_in(2) { tokens } else { self.chance.below(tokens + 1) };
        // Mostly over what stood at that token; else over what stood at first, as other answers to the
        // same request do.
        let follows = !self.chance.one_in(4);
        let (mut kept, mut swaps) = (0, [0; 2]);
        for event in events {
            match event {
                Event::Chosen { selected } => request.selected = Some(selected),
                Event::Token { token, .. } if kept < at => {
                    kept += 1;
                    request.composition.tail.push(token);
                }
                Event::Swapped { range, with, at: then } => {
                    let is_before = follows && then <= at;
                    swaps[usize::from(is_before)] += 1;
                    if is_before {
                        let with = with.into_iter().map(Placement::from);
                        request.composition.placements.splice(range, with);
                    }
                }
                _ => {}
            }
        }
        let [left, followed] = swaps.map(|swaps| usize::from(swaps > 0));
        self.pressure.forks_of_swapped[0] += left;
        self.pressure.forks_of_swapped[1] += followed;
        let vocab = self.world.shape.vocab;
        if self.chance.one_in(2) {
            request.composition.tail.extend(&*self.chance.tokens(1, 3, vocab));
        }
        request.sampling = if self.chance.one_in(2) { GREEDY } else { sampling(&mut self.chance) };
        if request.echo {
            request.logprobs = Some(2);
        }
        self.begin(request, usize::MAX);
    }

    /// Puts other fragments in the place of some of a generation's, once they are cached.
    fn swap(&mut self) {
        let chance = &mut self.chance;
        let is_open = |live: &&Live| {
            let policy = live.request.policy;
            matches!(policy, JoinPolicy::Reuse | JoinPolicy::Parallel { .. }) || chance.one_in(4)
        };
        let open: Vec<&Live> = self.live.iter().filter(is_open).collect();
        let Some(&live) = open.get(chance.below(open.len().max(1))) else { return };
        let Composition { root, placements, .. } = &live.request.composition;
        let (start, tenant) = (chance.below(placements.len() + 1), live.request.tenant.clone());
        let range = start..chance.within(start, placements.len());
        let with: Vec<_> = (0..chance.below(3)).map(|_| chance.pick(&self.texts).clone()).collect();
        for tokens in &with {
            let (tenant, root, tokens) = (tenant.clone(), root.clone(), tokens.clone());
            let spec =
                FragmentSpec { tenant, root, tokens, pin: false, priority: Priority::Normal };
            if let Ok(answer) = self.world.engine.begin_put(spec.clone()) {
                self.puts.push((spec, answer));
            }
        }
        let swap = Swap { sequence: live.id, range, with };
        for _ in 0..chance.below(4) {
            self.world.step();
        }
        self.swaps.push(self.world.engine.begin_swap(&tenant, swap).unwrap());
    }

    /// Only what the sizes of this life explain may be refused.
    fn refuse(&mut self, error: &RequestError) {
        self.pressure.refused += 1;
        let explained = matches!(
            error,
            RequestError::ContextTooLong { .. }
                | RequestError::MemoryTooSmall { .. }
                | RequestError::QueueFull { .. }
                | RequestError::OutOfRange { name: "pin" | "seal", .. }
        );
        assert!(explained, "refused: {error}");
    }

    fn request(&mut self) -> Request {
        let chance = &mut self.chance;
        let vocab = self.world.shape.vocab;
        let (tenant, root) = (chance.pick(&self.tenants).clone(), chance.pick(&self.roots).clone());
        let mut placements: Vec<Placement> =
            (0..chance.below(6)).map(|_| chance.pick(&self.texts).clone().into()).collect();
        let ours = (tenant.clone(), root.clone());
        for (place, ((sealed, _), of)) in self.shelf.iter().zip(&self.shelf_of).enumerate() {
            let rarity = if place < self.shelf_old { 2 } else { 3 };
            if *of == ours && chance.one_in(rarity) {
                placements.insert(chance.below(placements.len() + 1), sealed.clone());
            }
        }
        let policy = policy(chance);
        let selected = selected(chance, policy, root.len(), &placements);
        let echo = chance.one_in(4);
        let with_stops = chance.one_in(4);
        let max_tokens = *chance.pick(&[0, 1, 2, 5, 12, 25, 60]);
        let mut sampling = if chance.one_in(2) { GREEDY } else { sampling(chance) };
        if max_tokens > 0 && chance.one_in(4) {
            sampling.forced = chance.tokens(1, max_tokens, vocab).to_vec();
        }
        let priority = priority(chance);
        let seal = chance.one_in(3).then(|| Seal { closing: chance.tokens(1, 3, vocab).to_vec() });
        Request {
            tenant,
            priority,
            composition: Composition {
                root,
                placements,
                tail: chance.tokens(1, 9, vocab).to_vec(),
            },
            policy,
            selected,
            sampling,
            stop_tokens: if with_stops { vec![chance.below(vocab) as u32] } else { Vec::new() },
            stop_strings: Vec::new(),
            max_tokens,
            logprobs: (echo || chance.one_in(4)).then(|| chance.below(4)),
            echo,
            seal: seal.filter(|_| !oracle::is_plain(policy)),
        }
    }

    fn put(&mut self) {
        let chance = &mut self.chance;
        let spec = FragmentSpec {
            tenant: chance.pick(&self.tenants).clone(),
            root: chance.pick(&self.roots).clone(),
            tokens: chance.pick(&self.texts).clone(),
            pin: chance.one_in(6),
            priority: priority(chance),
        };
        match self.world.engine.begin_put(spec.clone()) {
            Ok(answer) => self.puts.push((spec, answer)),
            Err(error) => self.refuse(&error),
        }
    }

    fn cancel(&mut self) {
        if !self.live.is_empty() {
            let i = self.chance.below(self.live.len());
            self.live[i].cancelled = true;
            self.world.engine.cancel(self.live[i].id);
        }
    }

    fn drop_fragment(&mut self) {
        if !self.known.is_empty() {
            let (tenant, id) = self.chance.pick(&self.known).clone();
            self.drops.push(self.world.engine.begin_drop(&tenant, id).unwrap());
        }
    }

    fn inspect(&mut self) {
        if !self.known.is_empty() {
            let (tenant, id) = self.chance.pick(&self.known).clone();
            self.inspections.push(self.world.engine.begin_inspect(&tenant, id, true).unwrap());
        }
    }

    /// Checks everything that was answered since.
    fn settle(&mut self) {
        let puts = std::mem::take(&mut self.puts);
        for (spec, asked) in puts {
            match asked.try_recv() {
                Err(_) => self.puts.push((spec, asked)),
                Ok(Err(error)) => self.refuse(&error),
                Ok(Ok(info)) => {
                    assert_eq!((&info.root, &info.tokens), (&spec.root, &spec.tokens));
                    assert!(info.pinned || !spec.pin, "a pin that does not pin");
                    self.known.push((spec.tenant.clone(), info.id));
                }
            }
        }
        let pressure = &mut self.pressure;
        self.inspections.retain(|asked| match asked.try_recv() {
            Err(_) => true,
            Ok(Err(error)) => {
                assert!(matches!(error, RequestError::UnknownFragment(_)), "{error}");
                false
            }
            Ok(Ok(info)) => {
                assert_eq!(info.digest.is_some(), info.cached);
                let expected = oracle::digest_held(&info, &self.shelf);
                assert!(info.digest.is_none_or(|d| d == expected), "KV of {} changed", info.id);
                pressure.digests += usize::from(info.cached);
                false
            }
        });
        self.drops.retain(|asked| match asked.try_recv() {
            Err(_) => true,
            Ok(Err(RequestError::UnknownFragment(_) | RequestError::InUse(..)) | Ok(())) => false,
            Ok(Err(error)) => panic!("dropping: {error}"),
        });
        self.swaps.retain(|asked| match asked.try_recv() {
            Err(_) => true,
            Ok(answer) => {
                pressure.swaps += usize::from(answer.is_ok());
                let is_explained = matches!(
                    answer,
                    Ok(_)
                        | Err(RequestError::NotRunning(_)
                            | RequestError::NotCached(_)
                            | RequestError::ContextTooLong { .. }
                            | RequestError::MemoryTooSmall { .. }
                            | RequestError::OutOfRange { name: "swap", .. })
                );
                assert!(is_explained, "a swap: {answer:?}");
                false
            }
        });
        for mut live in std::mem::take(&mut self.live) {
            match live.is_over(&self.world.shape, &self.shelf, &mut self.pressure) {
                Fate::Goes => self.live.push(live),
                Fate::Over => {}
                Fate::Sealed(sealed, answer) => self.keep(&live.request, sealed, &answer),
            }
        }
    }

    /// Keeps what a request's tail and answer were sealed as.
    fn keep(&mut self, request: &Request, id: FragmentId, answer: &[TokenId]) {
        let Composition { root, placements, .. } = &request.composition;
        let (tokens, rows) = oracle::sealed(request, &self.world.shape, &self.shelf, answer);
        let engine = &self.world.engine;
        let id_of = |placement| engine.placement_id(&request.tenant, root, placement);
        let sealed = (!placements.is_empty()).then(|| {
            Arc::new(Sealed {
                saw: placements.iter().map(id_of).collect(),
                policy: request.policy,
                selected: oracle::selected(request, &self.world.shape, &self.shelf).into(),
                start: rows[0].position,
            })
        });
        let placement = Placement { tokens: tokens.into(), sealed };
        assert_eq!(id, id_of(&placement), "sealed as something else");
        self.pressure.sealed[0] += 1;
        self.known.push((request.tenant.clone(), id));
        if placement.sealed.is_some() && !self.shelf.iter().any(|(known, _)| *known == placement) {
            self.shelf.push((placement, rows));
            self.shelf_of.push((request.tenant.clone(), root.clone()));
        }
    }

    /// Nothing may be left over.
    fn end(mut self) -> Pressure {
        assert!(self.live.is_empty(), "{} generations were lost", self.live.len());
        assert!(self.puts.is_empty() && self.inspections.is_empty() && self.drops.is_empty());
        assert!(self.swaps.is_empty(), "{} swaps were never answered", self.swaps.len());
        let stats = self.world.core.stats();
        assert_eq!((stats.waiting, stats.running, stats.pages_sequences), (0, 0, 0), "{stats:?}");
        self.world.core.check_integrity();
        self.add_process();
        let tier = self.tier.as_ref();
        self.pressure.unlisted = tier.map_or([0; 2], Shelf::unlisted);
        self.pressure.sealed_fetched = tier.map_or([0; 2], Shelf::sealed);
        self.pressure
    }
}

impl Live {
    /// Checks what was heard, when it was all; then, what it was sealed as, with its answer.
    fn is_over(
        &mut self,
        shape: &ModelShape,
        shelf: &oracle::Shelf,
        pressure: &mut Pressure,
    ) -> Fate {
        let heard = Arc::clone(&self.heard);
        let events = heard.lock().unwrap();
        let is_gone = events.len() >= self.patience;
        let placements = &self.request.composition.placements;
        let is_over_sealed = placements.iter().any(|placement| placement.sealed.is_some());
        let Some(last) = events.last() else { return Fate::Goes };
        match last {
            Event::Failed(RequestError::MemoryTooSmall { .. }) => {
                assert_eq!(events.len(), 1, "refused after it began");
                pressure.refused += 1;
                Fate::Over
            }
            Event::Failed(RequestError::UnknownFragment(_)) => {
                let others = events.iter().filter(|event| !is_anew(event)).count();
                assert!(is_over_sealed && others == 1, "nothing else can be gone");
                pressure.sealed[2] += 1;
                Fate::Over
            }
            Event::Failed(error) => panic!("failed: {error}"),
            Event::Finished { summary, .. } => {
                let heard = Answer::heard(&events).unwrap();
                self.compose_anew(&events);
                let turns = turns(&events);
                let expected = oracle::answer_through(&self.request, shape, shelf, &turns);
                let anew = events.iter().filter(|event| is_anew(event)).count();
                pressure.composed_anew += anew;
                pressure.restarts +=
                    turns.iter().filter(|t| matches!(t, Turn::Restarted(_))).count();
                if heard.finish_reason == FinishReason::Cancelled {
                    assert!(self.cancelled || is_gone, "cancelled by nobody");
                    assert!(heard.begins(&expected), "{heard:?}\nis no part of {expected:?}");
                    pressure.cancelled += 1;
                } else {
                    assert_eq!(heard, expected, "of {:?} through {turns:?}", self.request);
                    pressure.answers += 1;
                }
                if turns.is_empty() {
                    self.check_counts(summary, heard.tokens.len(), shape, shelf);
                } else {
                    assert!(!summary.exact && summary.sealed.is_none(), "it saw two things");
                }
                pressure.sealed[1] += usize::from(is_over_sealed);
                pressure.sealed[3] += usize::from(self.is_over_old);
                let is_whole = heard.finish_reason != FinishReason::Cancelled;
                let is_sealed = is_whole && self.request.seal.is_some() && turns.is_empty();
                assert_eq!(summary.sealed.is_some(), is_sealed);
                let answer = heard.tokens.into_iter().map(|(token, _)| token).collect();
                summary.sealed.map_or(Fate::Over, |id| Fate::Sealed(id, answer))
            }
            _ => Fate::Goes,
        }
    }

    fn check_counts(
        &self,
        summary: &engine::Summary,
        output: usize,
        shape: &ModelShape,
        shelf: &oracle::Shelf,
    ) {
        let composition = &self.request.composition;
        let counts = summary.counts;
        let placed: usize = composition.placements.iter().map(|p| p.tokens.len()).sum();
        assert_eq!(counts.output, output);
        assert_eq!((counts.root, counts.tail), (composition.root.len(), composition.tail.len()));
        let cancelled_waiting = summary.finish_reason == FinishReason::Cancelled;
        let accounted = counts.reused + counts.encoded + counts.recomputed;
        assert!(accounted == placed || (cancelled_waiting && accounted == 0), "{counts:?}");
        assert!(counts.prefix_reused < counts.root + counts.tail, "{counts:?}");
        if !cancelled_waiting {
            self.check_repair(summary, shape, shelf);
        }
    }

    /// What was swapped in before it had a place is as if it had been asked for.
    fn compose_anew(&mut self, events: &[Event]) {
        for event in events.iter().filter(|event| is_anew(event)) {
            if let Event::Swapped { range, with, .. } = event.clone() {
                let with = with.into_iter().map(Placement::from);
                self.request.composition.placements.splice(range, with);
            }
        }
    }

    /// What was computed again, and what that makes of the answer.
    fn check_repair(&self, summary: &engine::Summary, shape: &ModelShape, shelf: &oracle::Shelf) {
        let Composition { root, placements, .. } = &self.request.composition;
        let selected = oracle::selected(&self.request, shape, shelf);
        assert_eq!(*summary.selected, selected[..]);
        if !oracle::is_plain(self.request.policy) {
            assert_eq!(summary.counts.recomputed, selected.len());
        }
        let clean = oracle::clean_first(placements);
        let rows = |of: &[Placement]| of.iter().map(|placement| placement.tokens.len()).sum();
        let (exact, later): (usize, usize) =
            (rows(&placements[..clean]), rows(&placements[clean..]));
        let first = (root.len() + exact) as u32;
        let is_mended = selected.iter().filter(|&&row| row >= first).count() == later;
        let exact = match self.request.policy {
            policy if oracle::is_plain(policy) => true,
            JoinPolicy::Parallel { temperature, scale } => {
                (temperature, scale) == (1.0, 1.0) && is_mended
            }
            _ => is_mended,
        };
        assert_eq!(summary.exact, exact);
    }
}

/// A swap of a generation that waited for its place.
fn is_anew(event: &Event) -> bool {
    matches!(event, Event::Swapped { at: 0, .. })
}

/// What happened to a generation besides being left alone.
fn turns(events: &[Event]) -> Vec<Turn> {
    let turn = |event: &Event| match event.clone() {
        Event::Swapped { range, with, at } if at > 0 => Some(Turn::Swapped(at, range, with)),
        Event::Restarted { at } => Some(Turn::Restarted(at)),
        _ => None,
    };
    events.iter().filter_map(turn).collect()
}

/// A life's tier: in memory, on a shelf, or one before the other.
fn open(host_bytes: Option<u64>, shelf: Option<&Shelf>) -> Option<Box<dyn Tier>> {
    let shelf = shelf.map(|shelf| Box::new(shelf.clone()) as Box<dyn Tier>);
    let Some(bytes) = host_bytes else { return shelf };
    let host = Box::new(Host::stepwise(bytes, Arc::new(Ticks::default())));
    match shelf {
        Some(shelf) => Some(Box::new(Layered::of_memory(host, shelf))),
        None => Some(host),
    }
}

/// Room for one record or for many, in half of all lives.
fn host_bytes(seed: u64) -> Option<u64> {
    let mut chance = Chance::new(seed ^ 0x4057);
    chance.one_in(2).then(|| (chance.within(4, 100) * ROW_BYTES) as u64)
}

fn priority(chance: &mut Chance) -> Priority {
    *chance.pick(&[Priority::Low, Priority::Normal, Priority::Normal, Priority::High])
}

fn policy(chance: &mut Chance) -> JoinPolicy {
    match chance.below(8) {
        0 | 1 => JoinPolicy::Recompute,
        2 => JoinPolicy::Reuse,
        3 => JoinPolicy::Parallel {
            temperature: *chance.pick(&[0.5, 1.0]),
            scale: *chance.pick(&[0.9, 1.0]),
        },
        4 => JoinPolicy::Boundary { tokens: *chance.pick(&[1, 3, 1000]) },
        5 => JoinPolicy::Auto { quality: *chance.pick(&[0.3, 0.7, 0.98, 1.0]) },
        6 => JoinPolicy::Query { ratio: *chance.pick(&[0.01, 0.3, 0.8, 1.0]) },
        _ => JoinPolicy::Deviation { ratio: *chance.pick(&[0.01, 0.3, 0.8, 1.0]) },
    }
}

/// Now and then, rows chosen by the caller.
fn selected(
    chance: &mut Chance,
    policy: JoinPolicy,
    root: usize,
    placements: &[Placement],
) -> Option<Arc<[u32]>> {
    let chooses = matches!(policy, JoinPolicy::Query { .. } | JoinPolicy::Deviation { .. });
    let rows: usize = placements.iter().map(|placement| placement.tokens.len()).sum();
    if !chooses || rows == 0 || !chance.one_in(3) {
        return None;
    }
    let among = root as u32..(root + rows) as u32;
    Some(among.filter(|_| chance.one_in(2)).collect())
}

fn sampling(chance: &mut Chance) -> Sampling {
    Sampling {
        temperature: *chance.pick(&[0.5, 1.0, 2.0]),
        top_p: *chance.pick(&[0.5, 0.9, 1.0]),
        top_k: *chance.pick(&[0, 3]),
        min_p: *chance.pick(&[0.0, 0.1]),
        repetition_penalty: *chance.pick(&[1.0, 1.3]),
        presence_penalty: *chance.pick(&[0.0, 0.5]),
        frequency_penalty: *chance.pick(&[0.0, 0.3]),
        seed: chance.below(1 << 20) as u64,
        forced: Vec::new(),
    }
}

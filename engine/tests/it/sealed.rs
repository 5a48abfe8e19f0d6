//! What memory gives up of what was sealed, and what jobs hear that need it then.

use crate::world::{CONFIG, World, request, shape};
use engine::{
    Config, Entry, Event, Figures, FragmentId, FragmentInfo, JoinPolicy, Kv, Notice, Placement,
    Request, RequestError, Seal, Tier,
};
use models::TokenId;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

const ROOT: [TokenId; 3] = [1, 2, 3];

/// A tier that takes everything, and says what the test wants.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    records: Vec<(FragmentId, Kv)>,
    notices: VecDeque<Notice>,
    /// It does not say that it has kept a record.
    is_silent: bool,
    /// Fetches wait until this is no more.
    is_slow: bool,
    fetches: Vec<FragmentId>,
    expected: Vec<FragmentId>,
}

impl Books {
    fn answer(&mut self, id: FragmentId) {
        let found = self.records.iter().find(|(of, _)| *of == id);
        let took = Duration::from_secs(9);
        let arrived = |(_, kv): &(_, Kv)| Notice::Arrived { id, kv: kv.clone(), took };
        self.notices.push_back(found.map_or(Notice::Lost(id), arrived));
    }
}

impl Told {
    fn with<T>(&self, act: impl FnOnce(&mut Books) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }
}

impl Tier for Told {
    fn entries(&mut self) -> Vec<Entry> {
        Vec::new()
    }

    fn keep(&mut self, entry: Entry, kv: Kv) -> bool {
        self.with(|books| {
            books.records.push((entry.id, kv));
            if !books.is_silent {
                books.notices.push_back(Notice::Kept(entry.id));
            }
        });
        true
    }

    fn fetch(&mut self, entry: Entry) {
        self.with(|books| {
            books.fetches.push(entry.id);
            if !books.is_slow {
                books.answer(entry.id);
            }
        });
    }

    fn expect(&mut self, entry: Entry) {
        self.with(|books| books.expected.push(entry.id));
    }

    fn remove(&mut self, id: FragmentId, _: usize) {
        self.with(|books| books.records.retain(|(of, _)| *of != id));
    }

    fn pin(&mut self, _: FragmentId, _: bool) {}

    fn poll(&mut self) -> Option<Notice> {
        self.with(|books| books.notices.pop_front())
    }

    fn wait(&mut self, _: Duration) -> Option<Notice> {
        self.poll()
    }

    fn figures(&self) -> Figures {
        Figures::default()
    }

    fn close(&mut self) {}
}

/// A small memory over a tier or none, and a sealed turn in it.
struct Life {
    world: World,
    tier: Told,
    turn: FragmentInfo,
}

impl Life {
    fn new(has_tier: bool, is_silent: bool) -> Self {
        let tier = Told::default();
        tier.with(|books| books.is_silent = is_silent);
        let boxed = has_tier.then(|| -> Box<dyn Tier> { Box::new(tier.clone()) });
        let mut world = World::over(shape(4, 16), CONFIG, boxed, None);
        let mut asked = request(JoinPolicy::Reuse, &ROOT, &[&[4, 5, 6]], &[7, 8]);
        asked.seal = Some(Seal { closing: vec![9] });
        let events = world.answer(asked);
        let Some(Event::Finished { summary, .. }) = events.last() else { panic!("{events:?}") };
        let id = summary.sealed.expect("a sealed turn");
        let turn = inspect(&mut world, id).unwrap();
        Self { world, tier, turn }
    }

    /// Puts fragments that fill the memory, and more.
    fn press(&mut self) -> Vec<FragmentInfo> {
        (10..22).map(|n| self.world.put(&ROOT, &[n, n, n, n, n])).collect()
    }

    fn request(&self) -> Request {
        let mut asked = request(JoinPolicy::Reuse, &ROOT, &[], &[7, 8]);
        let FragmentInfo { tokens, sealed, .. } = self.turn.clone();
        asked.composition.placements = vec![Placement { tokens, sealed }];
        asked
    }

    /// The tokens that a call over the sealed turn gives, or why it gives none.
    fn ask(&mut self) -> Result<Vec<TokenId>, RequestError> {
        let request = self.request();
        told(&self.world.answer(request))
    }

    fn known(&mut self) -> Result<FragmentInfo, RequestError> {
        inspect(&mut self.world, self.turn.id)
    }
}

fn told(events: &[Event]) -> Result<Vec<TokenId>, RequestError> {
    if let Some(Event::Failed(error)) = events.last() {
        assert_eq!(events.len(), 1, "nothing before: {events:?}");
        return Err(error.clone());
    }
    let token = |event: &Event| match event {
        Event::Token { token, .. } => Some(*token),
        _ => None,
    };
    Ok(events.iter().filter_map(token).collect())
}

fn inspect(world: &mut World, id: FragmentId) -> Result<FragmentInfo, RequestError> {
    let answer = world.engine.begin_inspect("t", id, true).unwrap();
    world.finish();
    answer.recv().unwrap()
}

#[test]
fn what_a_tier_has_is_given_up_like_any_other_and_comes_back() {
    let mut life = Life::new(true, false);
    let before = life.ask().unwrap();
    life.press();
    let known = life.known().unwrap();
    assert_eq!((known.cached, known.stored), (false, true), "it was the oldest");
    assert_eq!(life.ask().unwrap(), before);
    assert_eq!(life.known().unwrap().digest, life.turn.digest);
    let id = life.turn.id;
    assert!(life.tier.with(|books| books.fetches.contains(&id)));
}

#[test]
fn what_no_tier_is_known_to_have_goes_last() {
    for has_tier in [false, true] {
        let mut life = Life::new(has_tier, true);
        let before = life.ask().unwrap();
        let put = life.press();
        assert!(life.known().unwrap().cached, "with a tier: {has_tier}");
        let first = inspect(&mut life.world, put[0].id).unwrap();
        assert!(!first.cached, "newer ones went");
        assert_eq!(life.ask().unwrap(), before);
    }
}

#[test]
fn what_the_tier_loses_is_forgotten_and_said_to_be_unknown() {
    let mut life = Life::new(true, false);
    life.press();
    life.tier.with(|books| books.records.clear());
    let unknown = RequestError::UnknownFragment(life.turn.id);
    assert_eq!(life.ask().unwrap_err(), unknown, "a fetch in vain");
    assert_eq!(life.known().unwrap_err(), unknown);
    assert_eq!(life.ask().unwrap_err(), unknown);

    // Nobody asks, and the tier gives it up.
    let mut life = Life::new(true, false);
    life.press();
    let id = life.turn.id;
    life.tier.with(|books| books.notices.push_back(Notice::Gone(id)));
    life.world.finish();
    assert_eq!(life.known().unwrap_err(), unknown);
    assert_eq!(life.ask().unwrap_err(), unknown);
}

#[test]
fn every_job_that_waits_for_what_is_lost_ends_and_others_go_on() {
    let mut life = Life::new(true, false);
    life.press();
    life.tier.with(|books| {
        books.records.clear();
        books.is_slow = true;
    });
    // Places for four: some wait for the fetch, others for a place.
    let over: Vec<_> = (0..6).map(|_| life.world.submit(life.request(), 99).unwrap().1).collect();
    let other = request(JoinPolicy::Reuse, &ROOT, &[&[10; 5]], &[7, 8]);
    let (_, beside) = life.world.submit(other, 99).unwrap();
    for _ in 0..20 {
        life.world.step();
    }
    assert!(over.iter().all(|heard| heard.lock().unwrap().is_empty()), "they wait");
    let id = life.turn.id;
    life.tier.with(|books| {
        assert_eq!(books.fetches, [id], "asked for once");
        books.is_slow = false;
        books.answer(id);
    });
    life.world.finish();
    let unknown = RequestError::UnknownFragment(id);
    assert!(over.iter().all(|heard| told(&heard.lock().unwrap()) == Err(unknown.clone())));
    assert_eq!(told(&beside.lock().unwrap()).unwrap().len(), 6);
    assert_eq!(life.known().unwrap_err(), unknown);
}

#[test]
fn what_a_waiting_call_needs_is_expected_of_the_tier() {
    let (tier, config) = (Told::default(), Config { running_max: 1, ..CONFIG });
    let boxed: Box<dyn Tier> = Box::new(tier.clone());
    let mut world = World::over(shape(4, 16), config, Some(boxed), None);
    let cold = world.put(&ROOT, &[4, 5, 6]).id;
    for n in 10..22 {
        world.put(&ROOT, &[n; 5]);
    }
    assert!(!inspect(&mut world, cold).unwrap().cached, "it was the oldest");
    let asked = |tail: &[TokenId]| request(JoinPolicy::Reuse, &ROOT, &[&[4, 5, 6]], tail);
    let before = Request { max_tokens: 8, ..request(JoinPolicy::Recompute, &ROOT, &[], &[7]) };
    world.submit(before, usize::MAX).unwrap();
    world.step();
    let (_, heard) = world.submit(asked(&[7, 8]), usize::MAX).unwrap();
    world.step();
    let seen = || tier.with(|books| (books.expected.clone(), books.fetches.contains(&cold)));
    assert_eq!(seen(), (vec![cold], false), "told while it waits");
    world.finish();
    assert!(seen().1, "asked for when it has a place");
    assert_eq!(world.core.stats().tokens_encoded, 3 + 12 * 5, "it was not encoded again");
    assert!(matches!(heard.lock().unwrap().last(), Some(Event::Finished { .. })));
}

//! What is refused, and in which words: the limit and the value given.

use crate::{
    oracle::{self, Answer},
    world::{CONFIG, World, request, shape, spec},
};
use engine::{Config, Event, FragmentSpec, JoinPolicy, Request, RequestError};
use models::TokenId;
use std::sync::Arc;

/// A small request that nothing is wrong with, once `spoil` is through with it.
fn check(spoil: impl Fn(&mut Request), expected: &str) {
    let world = World::new(shape(4, 20), CONFIG);
    let mut request = request(JoinPolicy::Reuse, &[1], &[&[2]], &[3]);
    spoil(&mut request);
    let error = world.submit(request, usize::MAX).expect_err(expected);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn requests_out_of_bounds_are_refused_by_name() {
    check(
        |r| (r.policy, r.composition.root) = (JoinPolicy::Recompute, [].into()),
        "the root is empty: at least one token is needed",
    );
    check(
        |r| r.composition.placements.push(Arc::<[TokenId]>::from([]).into()),
        "a fragment is empty: at least one token is needed",
    );
    check(|r| r.composition.tail.clear(), "the tail is empty: at least one token is needed");
    check(|r| r.composition.tail.push(40), "token 40 is outside the vocabulary of 40 tokens");
    check(
        |r| r.composition.tail = vec![0; 199],
        "the composition needs 201 positions; the context holds 200",
    );
    check(|r| r.max_tokens = 100, "the request needs 27 KV pages; the memory holds 20");
    check(
        |r| r.sampling.temperature = f32::NAN,
        "temperature is NaN; it must be a finite number, 0 or more",
    );
    check(
        |r| r.sampling.temperature = -1.0,
        "temperature is -1; it must be a finite number, 0 or more",
    );
    check(|r| r.sampling.top_p = 0.0, "top_p is 0; it must be above 0 and at most 1");
    check(|r| r.sampling.min_p = 1.5, "min_p is 1.5; it must be from 0 to 1");
    check(
        |r| r.sampling.repetition_penalty = 0.0,
        "repetition_penalty is 0; it must be a finite number above 0",
    );
    check(
        |r| r.sampling.presence_penalty = f32::INFINITY,
        "presence_penalty is inf; it must be a finite number",
    );
    check(
        |r| (r.max_tokens, r.sampling.forced) = (1, vec![5, 6]),
        "forced is 2 tokens; it must be at most max_tokens tokens",
    );
    check(
        |r| (r.max_tokens, r.sampling.forced) = (1, vec![40]),
        "token 40 is outside the vocabulary of 40 tokens",
    );
    check(|r| r.logprobs = Some(1001), "logprobs is 1001; it must be at most 1000");
    check(|r| r.echo = true, "logprobs is absent; it must be given with echo");
    check(
        |r| r.stop_strings = vec![String::new()],
        "stop is a text of 0 bytes; it must be 1 to 1024 bytes each",
    );
    check(
        |r| r.stop_strings = vec!["x".into()],
        "stop is a text; it must be absent: there is no tokenizer",
    );
}

#[test]
fn only_plain_text_needs_no_root() {
    let tail: Vec<u32> = (1..30).collect();
    let plain = Request {
        logprobs: Some(3),
        echo: true,
        ..request(JoinPolicy::Recompute, &[], &[], &tail)
    };
    let mut world = World::new(shape(4, 20), CONFIG);
    let mut events = world.answer(plain.clone());
    assert_eq!(Answer::heard(&events), Some(oracle::answer(&plain, &shape(4, 20))));
    // Again over the cache that the first run left, where only what is scored is computed.
    let unscored = Request { echo: false, ..plain.clone() };
    events = world.answer(unscored.clone());
    assert_eq!(Answer::heard(&events), Some(oracle::answer(&unscored, &shape(4, 20))));
    let Some(Event::Finished { summary, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!((summary.counts.root, summary.counts.tail), (0, 29));
    assert_eq!(summary.counts.prefix_reused, 28);
    // One token is a text too.
    let one = request(JoinPolicy::Recompute, &[], &[], &[5]);
    assert_eq!(
        Answer::heard(&world.answer(one.clone())),
        Some(oracle::answer(&one, &shape(4, 20)))
    );

    let with_fragment = request(JoinPolicy::Recompute, &[], &[&[2]], &[3]);
    let error = world.submit(with_fragment, usize::MAX).expect_err("a fragment needs a root");
    assert_eq!(error, RequestError::Empty { what: "the root" });
}

#[test]
fn a_full_queue_refuses_and_takes_again() {
    let mut world = World::new(shape(4, 20), Config { waiting_max: 2, ..CONFIG });
    let request = || request(JoinPolicy::Reuse, &[1], &[], &[3]);
    world.submit(request(), usize::MAX).unwrap();
    world.submit(request(), usize::MAX).unwrap();
    let error = world.submit(request(), usize::MAX).expect_err("the queue is full");
    assert_eq!(error, RequestError::QueueFull { given: 3, limit: 2 });
    world.finish();
    world.submit(request(), usize::MAX).unwrap();
    world.finish();
    assert_eq!(world.core.stats().generations_ended, 3);
}

#[test]
fn pins_leave_room_for_work() {
    let mut world = World::new(shape(4, 20), CONFIG);
    let pinned = |tokens: &[u32]| FragmentSpec { pin: true, ..spec(&[1], tokens) };
    let fits = world.engine.begin_put(pinned(&[2; 40])).unwrap();
    let too_much = world.engine.begin_put(pinned(&[3; 4])).unwrap();
    world.finish();
    assert!(fits.recv().unwrap().unwrap().pinned);
    let error = too_much.recv().unwrap().expect_err("11 of 20 pages");
    assert!(matches!(error, RequestError::OutOfRange { name: "pin", .. }), "{error}");
    // 11 pages would fit 20, but not beside the 10 that are pinned.
    let mut request = request(JoinPolicy::Recompute, &[1; 40], &[], &[3; 2]);
    request.max_tokens = 1;
    let (_, heard) = world.submit(request, usize::MAX).unwrap();
    world.finish();
    let refused = RequestError::MemoryTooSmall { given: 11, limit: 10 };
    assert_eq!(*heard.lock().unwrap(), [Event::Failed(refused)]);
    // What is pinned is not evicted by what fits.
    let fits = world.put(&[1], &[2; 40]);
    assert!(fits.cached && fits.pinned);
}

//! What must not depend on what else there is: a fragment's bytes, and every answer.

use crate::{
    oracle::{self, Answer},
    world::{CONFIG, World, request, shape},
};
use engine::{Config, JoinPolicy, Request};
use models::TokenId;

const ROOT: &[TokenId] = &[1, 2, 3];
const A: &[TokenId] = &[10, 11, 12, 13, 14];
const B: &[TokenId] = &[20, 21, 22];
const C: &[TokenId] = &[30, 31, 32, 33, 34, 35, 36];
const TAIL: &[TokenId] = &[4, 5];

#[test]
fn dropping_a_fragment_leaves_no_trace() {
    let mut saw = World::new(shape(4, 60), CONFIG);
    let mut never = World::new(shape(4, 60), CONFIG);
    saw.answer(request(JoinPolicy::Reuse, ROOT, &[A, B, C], TAIL));
    let b = saw.put(ROOT, B);
    assert!(b.cached, "the composition encoded it");
    let dropped = saw.engine.begin_drop("t", b.id).unwrap();
    saw.finish();
    dropped.recv().unwrap().unwrap();
    for fragment in [A, C] {
        let (with, without) = (saw.put(ROOT, fragment), never.put(ROOT, fragment));
        assert!(with.cached && !without.cached);
        assert_eq!(with.id, without.id);
        let digest = saw.digest(&with);
        assert_eq!(digest, never.digest(&without));
        assert_eq!(digest, Some(oracle::digest(ROOT, fragment)));
    }
    for order in [[A, C], [C, A]] {
        let mut request = request(JoinPolicy::Reuse, ROOT, &order, TAIL);
        request.logprobs = Some(3);
        let (with, without) = (saw.answer(request.clone()), never.answer(request));
        assert_eq!(Answer::heard(&with), Answer::heard(&without));
    }
}

/// Forcing an answer scores it as a tail that ends in it does, where a policy goes by no tail.
#[test]
fn a_forced_answer_scores_as_in_the_tail() {
    let answer = [6, 31, 5];
    for policy in [JoinPolicy::Recompute, JoinPolicy::Reuse] {
        let mut world = World::new(shape(4, 60), CONFIG);
        let mut forced = request(policy, ROOT, &[A, B], TAIL);
        (forced.max_tokens, forced.logprobs) = (answer.len() + 1, Some(3));
        forced.sampling.forced = answer.to_vec();
        let tail = [TAIL, &answer].concat();
        let echoed = request(policy, ROOT, &[A, B], &tail);
        let echoed = Request { max_tokens: 1, echo: true, logprobs: Some(3), ..echoed };
        let forced = Answer::heard(&world.answer(forced)).unwrap();
        let echoed = Answer::heard(&world.answer(echoed)).unwrap();
        let (mut scores, _) = echoed.scored.unwrap();
        let scores = scores.split_off(TAIL.len() - 1);
        let given: Vec<_> = forced.tokens[..answer.len()].iter().map(|t| t.1.clone()).collect();
        assert_eq!(given, scores.into_iter().map(Some).collect::<Vec<_>>());
        assert_eq!(forced.tokens[answer.len()..], echoed.tokens, "what follows is chosen");
    }
}

/// Encoded after nothing, fragments are placed and cached as others are; and a fragment that has
/// the tokens of a root shares its KV.
#[test]
fn fragments_may_have_no_root() {
    let mut world = World::new(shape(4, 60), CONFIG);
    world.answer(request(JoinPolicy::Reuse, A, &[C], TAIL));
    for (placements, cached) in [([A, B, C], A.len()), ([B, C, A], A.len() + B.len() + C.len())] {
        let mut request = request(JoinPolicy::Reuse, &[], &placements, TAIL);
        (request.echo, request.logprobs) = (true, Some(2));
        let expected = oracle::answer(&request, &shape(4, 60));
        let events = world.answer(request);
        assert_eq!(Answer::heard(&events), Some(expected));
        let Some(engine::Event::Finished { summary, .. }) = events.last() else {
            panic!("{events:?}")
        };
        assert_eq!((summary.counts.reused, summary.exact), (cached, false));
        assert_eq!(summary.counts.prefix_reused, 0);
    }
    let alone = world.answer(request(JoinPolicy::Reuse, &[], &[A], TAIL));
    let plain = world.answer(request(JoinPolicy::Recompute, A, &[], TAIL));
    assert_eq!(Answer::heard(&alone), Answer::heard(&plain), "one fragment alone is exact");
}

#[test]
fn evicted_fragments_come_back_with_the_same_bytes() {
    let mut world = World::new(shape(4, 8), CONFIG);
    let a = world.put(ROOT, A);
    let before = world.digest(&a);
    assert!(before.is_some());
    // Takes all eight pages.
    world.answer(request(JoinPolicy::Recompute, &[9; 25], &[], TAIL));
    assert_eq!(world.digest(&a), None, "evicted, and still known");
    assert!(!world.put(ROOT, A).cached);
    assert_eq!(world.digest(&a), before);
}

#[test]
fn tenants_share_nothing() {
    let mut world = World::new(shape(4, 60), CONFIG);
    let a = world.put(ROOT, A);
    let other = world.engine.begin_inspect("other", a.id, false).unwrap();
    let theirs = engine::FragmentSpec { tenant: "other".into(), ..crate::world::spec(ROOT, A) };
    let put = world.engine.begin_put(theirs).unwrap();
    world.finish();
    assert!(other.recv().unwrap().is_err(), "seen by another tenant");
    let theirs = put.recv().unwrap().unwrap();
    assert!(!theirs.cached && theirs.id != a.id, "shared with another tenant");
}

/// All ways to cut six tokens into up to three fragments, on all small pages, in all chunks.
#[test]
fn every_cut_answers_like_the_oracle() {
    let tokens = [7, 8, 9, 7, 8, 6];
    let mut checked = 0;
    for page_rows in 1..=4 {
        for chunk in [1, 3, 16] {
            let config = Config { prefill_rows_per_step: chunk, ..CONFIG };
            let mut world = World::new(shape(page_rows, 90), config);
            for first in 0..=6 {
                for second in first..=6 {
                    let cuts = [&tokens[..first], &tokens[first..second], &tokens[second..]];
                    let cuts: Vec<_> = cuts.into_iter().filter(|cut| !cut.is_empty()).collect();
                    for policy in [JoinPolicy::Recompute, JoinPolicy::Reuse] {
                        let mut request = request(policy, ROOT, &cuts, TAIL);
                        (request.echo, request.logprobs) = (true, Some(2));
                        check(&mut world, &request);
                        checked += 1;
                    }
                }
            }
        }
    }
    assert_eq!(checked, 4 * 3 * 28 * 2);
}

/// One fragment right after its root saw all that it would have seen in a concatenation.
#[test]
fn one_fragment_alone_is_exact() {
    let mut world = World::new(shape(4, 60), CONFIG);
    for placements in [&[][..], &[A]] {
        let reuse = world.answer(request(JoinPolicy::Reuse, ROOT, placements, TAIL));
        let recompute = world.answer(request(JoinPolicy::Recompute, ROOT, placements, TAIL));
        assert_eq!(Answer::heard(&reuse), Answer::heard(&recompute));
    }
    let reuse = world.answer(request(JoinPolicy::Reuse, ROOT, &[A, B], TAIL));
    let recompute = world.answer(request(JoinPolicy::Recompute, ROOT, &[A, B], TAIL));
    assert_ne!(Answer::heard(&reuse), Answer::heard(&recompute), "the hash sees the difference");
}

fn check(world: &mut World, request: &Request) {
    let events = world.answer(request.clone());
    let expected = oracle::answer(request, &world.shape);
    assert_eq!(Answer::heard(&events), Some(expected), "{request:?}");
}

//! Forks of a generation that was swapped in: what they share with it, and what they compute.

use crate::{
    oracle::{self, Answer},
    world::{CONFIG, Heard, World, request, shape},
};
use engine::{Event, JoinPolicy, Placement, Request, Swap};
use models::TokenId;
use std::sync::Arc;

const ROOT: [TokenId; 2] = [1, 2];
const FIRST: [TokenId; 3] = [3, 4, 5];
const OLD: [TokenId; 2] = [6, 7];
const TAIL: [TokenId; 9] = [11, 12, 13, 14, 15, 16, 17, 18, 19];

/// A world where a long answer goes on, with `new` in the place of its last fragment since a token.
struct Swapped {
    world: World,
    request: Request,
    heard: Heard,
    new: Arc<[TokenId]>,
    /// Tokens of the answer that were there before.
    at: usize,
}

impl Swapped {
    fn with(new: &[TokenId]) -> Self {
        let mut world = World::new(shape(4, 64), CONFIG);
        world.put(&ROOT, new);
        let request = request(JoinPolicy::Reuse, &ROOT, &[&FIRST, &OLD], &TAIL);
        let request = Request { max_tokens: 60, ..request };
        let (sequence, heard) = world.submit(request.clone(), usize::MAX).unwrap();
        let mut swapped = Self { world, request, heard, new: new.into(), at: 0 };
        swapped.step_to(6);
        let with = vec![Arc::clone(&swapped.new)];
        let asked = Swap { sequence, range: 1..2, with };
        let answer = swapped.world.engine.begin_swap("t", asked).unwrap();
        swapped.step_to(12);
        swapped.at = answer.try_recv().unwrap().unwrap();
        assert!(swapped.at < 12, "it goes on behind the swap");
        swapped
    }

    fn answer(&self) -> Vec<TokenId> {
        let token = |event: &Event| match event {
            Event::Token { token, .. } => Some(*token),
            _ => None,
        };
        self.heard.lock().unwrap().iter().filter_map(token).collect()
    }

    fn step_to(&mut self, tokens: usize) {
        while self.answer().len() < tokens {
            self.world.step();
        }
    }

    /// Goes on from a token, over what is given or else what stood at first, to the oracle's answer;
    /// how many rows it took over.
    fn fork(&mut self, at: usize, over: Option<&[TokenId]>) -> u64 {
        let mut request = Request { max_tokens: 5, ..self.request.clone() };
        request.composition.tail.extend(&self.answer()[..at]);
        if let Some(over) = over {
            request.composition.placements[1] = Placement::from(Arc::from(over));
        }
        let before = self.world.core.stats().rows_adopted;
        let (_, heard) = self.world.submit(request.clone(), usize::MAX).unwrap();
        let answer = loop {
            self.world.step();
            if let Some(answer) = Answer::heard(&heard.lock().unwrap()) {
                break answer;
            }
        };
        assert_eq!(answer, oracle::answer(&request, &self.world.shape), "a fork at {at}");
        self.world.core.stats().rows_adopted - before
    }
}

#[test]
fn what_was_computed_before_a_swap_is_shared_to_the_swap() {
    let mut swapped = Swapped::with(&[8, 9, 10]);
    // The last token that was there is forwarded behind the swap.
    let (at, before) = (swapped.at, (TAIL.len() + swapped.at - 1) as u64);
    assert_eq!(swapped.fork(at - 2, None), before - 2, "all but its last row");
    assert_eq!(swapped.fork(at, None), before);
    assert_eq!(swapped.fork(at + 3, None), before, "what is behind saw something else");
    assert_eq!(swapped.fork(0, None) as usize, TAIL.len() - 1, "another answer to it");
}

#[test]
fn over_what_was_swapped_in_all_is_computed() {
    // Also where it is as long as what it replaced, so that all stands where a fork has it.
    for new in [&[8, 9, 10][..], &[8, 9]] {
        let mut swapped = Swapped::with(new);
        let at = swapped.at;
        assert_eq!(swapped.fork(at, Some(new)), 0);
        assert_eq!(swapped.fork(at + 3, Some(new)), 0);
    }
}

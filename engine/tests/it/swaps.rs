//! Swaps of generations that have no row of their own, with and without a place: nothing is computed
//! yet, or any more, so nothing is a trace of what stood there before.

use crate::{
    oracle::{self, Answer, Turn},
    world::{CONFIG, World, request, shape},
};
use engine::{
    Config, Event,
    JoinPolicy::{Recompute, Reuse},
    Priority, Request, RequestError, SequenceId, Swap,
};
use std::sync::Arc;

const OLD: &[u32] = &[5, 6, 7];
const NEW: &[u32] = &[8, 9, 10, 11];

fn over(placed: &[u32]) -> Request {
    Request { max_tokens: 6, ..request(Reuse, &[1], &[&[3, 4], placed], &[2, 12]) }
}

/// A world whose one place is taken, and a generation that waits for it.
fn waiting(request: Request) -> (World, SequenceId, Arc<std::sync::Mutex<Vec<Event>>>) {
    let mut world = World::new(shape(4, 40), Config { running_max: 1, ..CONFIG });
    let first = over(OLD);
    world.submit(Request { priority: Priority::High, ..first }, usize::MAX).unwrap();
    let (sequence, heard) = world.submit(request, usize::MAX).unwrap();
    world.step();
    world.step();
    (world, sequence, heard)
}

fn swap(world: &mut World, sequence: SequenceId, with: &[u32]) -> Result<usize, RequestError> {
    let swap = Swap { sequence, range: 1..2, with: vec![with.into()] };
    let answer = world.engine.begin_swap("t", swap).unwrap();
    world.step();
    answer.try_recv().expect("nothing has to be waited for")
}

fn run(world: &mut World) {
    for _ in 0..100 {
        world.step();
    }
}

#[test]
fn who_waits_is_composed_anew() {
    let (mut world, sequence, heard) = waiting(over(OLD));
    assert_eq!(swap(&mut world, sequence, NEW), Ok(0), "it need not be cached");
    run(&mut world);
    let events = heard.lock().unwrap();
    assert!(matches!(events[0], Event::Swapped { at: 0, .. }), "{events:?}");
    let Some(Event::Finished { summary, .. }) = events.last() else { panic!("{events:?}") };
    let asked = World::new(shape(4, 40), CONFIG).answer(over(NEW));
    let Some(Event::Finished { summary: expected, .. }) = asked.last() else { panic!("{asked:?}") };
    assert_eq!(Answer::heard(&events).unwrap(), Answer::heard(&asked).unwrap());
    assert_eq!((summary.exact, summary.counts.tail), (expected.exact, expected.counts.tail));
    let placed = |counts: engine::Counts| counts.reused + counts.encoded;
    assert_eq!(placed(summary.counts), placed(expected.counts), "of what stands there now");
}

#[test]
fn who_has_a_place_and_no_row_is_composed_anew() {
    let config = Config { prefill_rows_per_step: 1, ..CONFIG };
    for is_whole in [false, true] {
        let mut world = World::new(shape(4, 40), config);
        for cached in [NEW, if is_whole { OLD } else { NEW }] {
            world.answer(over(cached));
        }
        let (sequence, heard) = world.submit(over(OLD), usize::MAX).unwrap();
        // Admitted, and the first rows of what it lacks.
        world.step();
        world.step();
        assert_eq!(heard.lock().unwrap().len(), 0);
        assert_eq!(world.core.stats().running, 1);
        let encoded = world.core.stats().tokens_encoded;
        if is_whole {
            // Nothing is lacking: a row of the tail is there, and it is too late for that.
            let swap = Swap { sequence, range: 1..2, with: vec![NEW.into()] };
            let answer = world.engine.begin_swap("t", swap).unwrap();
            run(&mut world);
            assert!(answer.try_recv().unwrap().unwrap() > 0);
            continue;
        }
        assert_eq!(swap(&mut world, sequence, NEW), Ok(0));
        run(&mut world);
        world.core.check_integrity();
        let again = world.core.stats().tokens_encoded - encoded;
        assert_eq!(again, 0, "what went is not encoded to its end");
        let (events, asked) = (heard.lock().unwrap(), world.answer(over(NEW)));
        assert_eq!(Answer::heard(&events).unwrap(), Answer::heard(&asked).unwrap());
        let Some(Event::Finished { summary, .. }) = events.last() else { panic!("{events:?}") };
        let Some(Event::Finished { summary: expected, .. }) = asked.last() else { panic!() };
        assert_eq!((summary.counts, summary.exact), (expected.counts, expected.exact));
    }
}

#[test]
fn who_gave_its_place_back_computes_all_over_what_is_new() {
    let request = Request { max_tokens: 12, priority: Priority::Low, ..over(OLD) };
    let mut world = World::new(shape(4, 40), Config { running_max: 1, ..CONFIG });
    world.answer(over(NEW));
    let (sequence, heard) = world.submit(request.clone(), usize::MAX).unwrap();
    let said =
        |events: &[Event]| events.iter().filter(|e| matches!(e, Event::Token { .. })).count();
    while said(&heard.lock().unwrap()) < 4 {
        world.step();
    }
    world.submit(Request { priority: Priority::High, ..over(OLD) }, usize::MAX).unwrap();
    while world.core.stats().preemptions == 0 {
        world.step();
    }
    let at = said(&heard.lock().unwrap());
    assert_eq!(swap(&mut world, sequence, NEW), Ok(at), "it does not wait for its place");
    run(&mut world);
    world.core.check_integrity();
    let events = heard.lock().unwrap();
    let turns = [Turn::Swapped(at, 1..2, vec![NEW.into()]), Turn::Restarted(at)];
    let expected = oracle::answer_through(&request, &shape(4, 40), &[], &turns);
    assert_eq!(Answer::heard(&events).unwrap(), expected);
    let restarts = events.iter().filter(|event| matches!(event, Event::Restarted { .. })).count();
    assert_eq!(restarts, 1, "{events:?}");
}

#[test]
fn what_cannot_be_composed_leaves_it_as_it_was() {
    let long: Vec<u32> = (0..shape(4, 40).context_max as u32).map(|i| i % 20).collect();
    let (mut world, sequence, heard) = waiting(over(OLD));
    let refused = swap(&mut world, sequence, &long).unwrap_err();
    assert!(matches!(refused, RequestError::ContextTooLong { .. }), "{refused:?}");
    run(&mut world);
    let asked = World::new(shape(4, 40), CONFIG).answer(over(OLD));
    assert_eq!(Answer::heard(&heard.lock().unwrap()), Answer::heard(&asked));
}

#[test]
fn plain_concatenation_has_no_place_to_swap() {
    let plain = Request { policy: Recompute, ..over(OLD) };
    let (mut world, sequence, _) = waiting(plain);
    let refused = swap(&mut world, sequence, NEW).unwrap_err();
    assert!(matches!(refused, RequestError::OutOfRange { name: "swap", .. }), "{refused:?}");
}

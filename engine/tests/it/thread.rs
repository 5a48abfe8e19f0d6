//! The engine on its own thread: life, shutdown, and death.

use crate::{
    hash_model::HashModel,
    oracle::{self, Answer},
    world::{CONFIG, Ticks, request, shape, spec},
};
use engine::{Engine, Event, FinishReason, JoinPolicy, Request, RequestError};
use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    time::Duration,
};

/// Long enough for a loop that works, on any machine.
const PATIENCE: Duration = Duration::from_mins(1);

fn start(forwards_left: Option<usize>) -> Engine {
    let (mut model, _) = HashModel::new(shape(4, 60));
    model.forwards_left = forwards_left;
    Engine::start(Box::new(model), None, CONFIG, Arc::new(Ticks::default()))
}

fn submit(engine: &Engine, request: Request) -> (engine::SequenceId, Receiver<Event>) {
    let (sender, events) = mpsc::channel();
    let id = engine.submit(request, Box::new(move |event| sender.send(event).is_ok())).unwrap();
    (id, events)
}

fn long() -> Request {
    Request { max_tokens: 190, ..request(JoinPolicy::Reuse, &[1], &[&[2, 3]], &[4]) }
}

#[test]
fn answers_come_from_the_thread() {
    let engine = start(None);
    assert!(engine.is_alive(PATIENCE));
    let info = engine.put_fragment(spec(&[1], &[2, 3])).unwrap();
    assert_eq!(
        engine.fragment("t", info.id, true).unwrap().digest,
        Some(oracle::digest(&[1], &[2, 3]))
    );
    let (_, events) = submit(&engine, long());
    let events: Vec<Event> = events.iter().collect();
    assert_eq!(Answer::heard(&events), Some(oracle::answer(&long(), engine.shape())));
    assert_eq!(engine.fragments("t").unwrap().len(), 1);
    engine.drop_fragment("t", info.id).unwrap();
    assert_eq!(engine.drop_fragment("t", info.id), Err(RequestError::UnknownFragment(info.id)));
    engine.shutdown(PATIENCE);
    assert_eq!(engine.stats().generations_ended, 1);
}

#[test]
fn shutdown_refuses_cancels_and_stops() {
    let engine = start(None);
    let (_, events) = submit(&engine, long());
    engine.shutdown(Duration::ZERO);
    let last = events.iter().last();
    assert!(matches!(last, Some(Event::Finished { .. })), "{last:?}");
    assert!(!engine.is_alive(PATIENCE));
    let refused = engine.submit(long(), Box::new(|_| panic!("a refused reader hears nothing")));
    assert!(matches!(refused, Err(RequestError::EngineDown(_))), "{refused:?}");
    assert!(matches!(engine.put_fragment(spec(&[1], &[2])), Err(RequestError::EngineDown(_))));
    engine.shutdown(Duration::ZERO);
}

#[test]
fn cancelling_ends_with_a_word() {
    let engine = start(None);
    let (id, events) = submit(&engine, long());
    engine.cancel(id);
    let Some(Event::Finished { summary, .. }) = events.iter().last() else { panic!("no end") };
    // The thread may have been quicker than the call.
    let reasons = [FinishReason::Cancelled, FinishReason::Length];
    assert!(reasons.contains(&summary.finish_reason), "{summary:?}");
}

#[test]
fn a_panic_of_the_loop_is_told_to_everyone() {
    end_is_told(&start(Some(5)), "its loop panicked: the model breaks down");
}

#[test]
fn a_lost_device_is_told_to_everyone() {
    let (mut model, _) = HashModel::new(shape(4, 60));
    (model.forwards_left, model.is_lost_then) = (Some(5), true);
    let engine = Engine::start(Box::new(model), None, CONFIG, Arc::new(Ticks::default()));
    end_is_told(&engine, "the model is lost: no device any more");
}

/// Who listens when the loop ends, and who asks later, hears why.
fn end_is_told(engine: &Engine, why: &str) {
    let (_, first) = submit(engine, long());
    let (_, second) = submit(engine, long());
    for events in [first, second] {
        let last = events.iter().last();
        let Some(Event::Failed(RequestError::EngineDown(_))) = last else {
            panic!("not told: {last:?}")
        };
    }
    assert!(!engine.is_alive(PATIENCE));
    let Err(RequestError::EngineDown(reason)) = engine.put_fragment(spec(&[1], &[2])) else {
        panic!("still working")
    };
    assert_eq!(reason, why);
}

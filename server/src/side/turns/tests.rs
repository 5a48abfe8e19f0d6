//! Turns without an engine: what is encoded is said to be.

use super::*;

const ROOT: [TokenId; 2] = [1, 2];

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(1_790_000_000.0 + seconds)
}

fn tokens(text: &str) -> Arc<[TokenId]> {
    text.bytes().map(TokenId::from).collect()
}

/// A clock that was written as it was made, at a quarter past a second, and is encoded after a root.
fn clock(template: &str, tick: f64) -> SideContext {
    let clock = Clock::new(template, None, tick).unwrap();
    let mut context = SideContext::new("sc_1".into(), Kind::Clock(clock), at(0.25));
    let (text, since) = context.due(at(0.25)).unwrap().expect("nothing is written yet");
    assert_eq!(since, at(0.25));
    context.rewrite(text.clone(), tokens(&text), since);
    (context.root, context.encoded) = (Some(ROOT.into()), Some(1));
    context
}

/// Encodes what comes next, if anything.
fn look_ahead(context: &mut SideContext, now: Duration) -> Option<Duration> {
    let (at, root, text) = context.next_text(now)?;
    context.ahead = Some(Ahead { at, tokens: tokens(&text), text, root });
    Some(at)
}

#[test]
fn a_clock_turns_at_its_tick_and_not_before() {
    let mut context = clock("%S", 1.0);
    assert_eq!(look_ahead(&mut context, at(0.3)), Some(at(1.0)));
    assert_eq!(look_ahead(&mut context, at(0.4)), None, "it is there already");
    assert!(context.turn(at(0.99)).is_none());
    let turned = context.turn(at(1.01)).expect("its time has come");
    assert_eq!(turned.gone, None, "who reads live holds it still");
    assert_eq!((context.changed, context.version, context.encoded), (at(1.0), 2, Some(2)));
    assert_eq!(context.pieces[0].text, "21");
    assert_eq!(context.due(at(1.5)).unwrap(), None);
    look_ahead(&mut context, at(1.5));
    let turned = context.turn(at(2.0)).expect("the next");
    assert_eq!(turned.gone, Some(tokens("20")), "the one before the last");
}

#[test]
fn what_was_made_ready_for_something_else_is_not_told() {
    let mut late = clock("%S", 1.0);
    look_ahead(&mut late, at(0.3));
    assert!(late.turn(at(2.2)).is_none(), "that second is over");
    assert_eq!(late.due(at(2.2)).unwrap(), Some(("22".to_owned(), at(2.0))));

    let mut moved = clock("%S", 1.0);
    look_ahead(&mut moved, at(0.3));
    moved.root = Some([3].into());
    assert!(moved.turn(at(1.0)).is_none(), "it is encoded after another root");

    let mut changed = clock("%S", 1.0);
    look_ahead(&mut changed, at(0.3));
    changed.kind = Kind::Clock(Clock::new("%M", None, 1.0).unwrap());
    assert!(changed.turn(at(1.0)).is_none(), "another template");
}

/// Otherwise its turn would be waited for, and never come.
#[test]
fn what_is_told_already_is_not_waited_for() {
    let mut context = clock("%S", 1.0);
    look_ahead(&mut context, at(0.3));
    context.rewrite("21".to_owned(), tokens("21"), at(1.0));
    assert!(context.turn(at(1.1)).is_none() && context.ahead.is_none());
    assert_eq!((context.version, context.changed), (2, at(1.0)));
}

#[test]
fn nothing_is_encoded_long_ahead_or_before_what_is_told_now() {
    let mut hourly = clock("%H", 3_600.0);
    assert_eq!(look_ahead(&mut hourly, at(0.5)), None);
    // 14:13:20 as it begins.
    assert_eq!(look_ahead(&mut hourly, at(2_799.0)), Some(at(2_800.0)));
    let mut behind = clock("%S", 1.0);
    behind.encoded = Some(0);
    assert_eq!(look_ahead(&mut behind, at(0.5)), None);
}

#[test]
fn a_text_that_stays_is_not_left_behind() {
    let mut context = clock("%H", 1.0);
    for second in 1..4 {
        look_ahead(&mut context, at(f64::from(second) - 0.5));
        let turned = context.turn(at(f64::from(second))).expect("its time has come");
        assert_eq!(turned.gone, None, "it stands there");
    }
}

#[test]
fn a_clock_of_a_machine_that_was_put_back_goes_on() {
    let context = clock("%S", 1.0);
    assert_eq!(context.due(at(-100.5)).unwrap(), Some(("39".to_owned(), at(-101.0))));
}

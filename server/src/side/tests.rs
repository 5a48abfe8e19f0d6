//! What side contexts hold, lose and tell, without an engine.

use super::*;
use futures::FutureExt as _;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn filled(roll: Roll) -> SideContext {
    let mut context = SideContext::new("sc_1".into(), Kind::Feed, seconds(0));
    context.roll = roll;
    for n in 1..=5 {
        context.push(format!("entry {n}"), vec![0; n as usize].into(), seconds(n));
    }
    context
}

#[test]
fn the_oldest_entries_roll_off_while_a_bound_is_passed() {
    for (roll, gone) in [
        (Roll::default(), vec![]),
        (Roll { entries: Some(2), ..Roll::default() }, vec![1, 2, 3]),
        (Roll { tokens: Some(9), ..Roll::default() }, vec![1, 2, 3]),
        (Roll { tokens: Some(8), ..Roll::default() }, vec![1, 2, 3, 4]),
        (Roll { age: Some(seconds(3)), ..Roll::default() }, vec![1, 2]),
        // The newest stays, however large, unless it is too old.
        (Roll { tokens: Some(1), ..Roll::default() }, vec![1, 2, 3, 4]),
        (Roll { age: Some(seconds(0)), ..Roll::default() }, vec![1, 2, 3, 4, 5]),
    ] {
        let mut context = filled(roll);
        let version = context.version;
        assert_eq!(context.roll_off(seconds(6)), gone, "{roll:?}");
        assert_eq!(context.version > version, !gone.is_empty(), "a change is a version");
        assert_eq!(context.rolled_off, gone.len() as u64);
    }
}

#[test]
fn every_change_is_told() {
    let roll = Roll { entries: Some(4), age: Some(seconds(3)), ..Roll::default() };
    let mut context = filled(roll);
    let mut reader = context.events.read(Some(4));
    assert_eq!(context.roll_off(seconds(5)), [1]);
    assert!(context.take(4, seconds(5)) && !context.take(4, seconds(5)));
    assert_eq!(context.roll_off(seconds(6)), [2]);
    let mut told = Vec::new();
    while let Some(Some(Reading::Event(_, event))) = reader.next().now_or_never() {
        told.push((*event).clone());
    }
    let rolled_off =
        |version, entries, why, tokens| SideEvent::RolledOff { version, entries, why, tokens };
    let (added, removed) = (vec![], vec![4]);
    assert_eq!(
        told,
        [
            rolled_off(6, vec![1], Bound::Age, 14),
            SideEvent::Changed { version: 7, added, removed, tokens: 10, at: seconds(5) },
            rolled_off(8, vec![2], Bound::Age, 8),
        ]
    );
}

#[test]
fn an_inbox_is_one_piece_that_is_written_anew() {
    let kind = Kind::Inbox(Inbox::default());
    let mut context = SideContext::new("sc_1".into(), kind, seconds(0));
    let message =
        |gist: &str| Message { number: 0, at: seconds(1), from: None, gist: gist.into(), id: None };
    let show = |context: &mut SideContext| {
        let (text, _) = context.due(seconds(1)).unwrap().expect("something changed");
        context.rewrite(text.clone(), vec![0; 3].into(), seconds(1));
        text
    };
    assert_eq!(show(&mut context), "Inbox: nothing waits.\n");
    assert_eq!(context.due(seconds(9)).unwrap(), None);
    assert_eq!((context.add(message("a")), context.add(message("b"))), (Ok(1), Ok(2)));
    assert_eq!(show(&mut context), "Inbox: 2 messages wait.\n#1: a\n#2: b\n");
    assert!(context.take(1, seconds(2)) && !context.take(1, seconds(2)));
    assert_eq!(show(&mut context), "Inbox: 1 message waits.\n#2: b\n");
    assert_eq!((context.version, context.pieces.len(), context.pieces[0].number), (3, 1, 0));
}

#[test]
fn tenants_have_their_own() {
    let contexts = SideContexts::new();
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
    contexts.add(&a, filled(Roll::default())).unwrap();
    assert!(contexts.get(&a, "sc_1").is_ok() && contexts.get(&b, "sc_1").is_err());
    assert!(contexts.list(&b).is_empty() && contexts.remove(&b, "sc_1").is_err());
    assert_eq!(contexts.remove(&a, "sc_1").unwrap().pieces.len(), 5);
}

//! What a tier is asked that may have more than it lists.

use super::{Ask, Stored};
use crate::{
    FragmentId, JoinPolicy, Sealed,
    fragments::Content,
    stored::content_of,
    tier::{Entry, Notice},
};
use std::{iter, sync::Arc, time::Duration};

fn fragment(rows: u32) -> Content {
    let root = Content::root(&[7; 32], &"tenant".into(), &[1].into());
    Content::after(&[7; 32], &root, &(0..rows).collect())
}

fn turn(start: u32) -> Content {
    let root = Content::root(&[7; 32], &"tenant".into(), &[1].into());
    let (saw, selected) = ([fragment(2).id].into(), [2].into());
    let sealed = Sealed { saw, policy: JoinPolicy::Boundary { tokens: 1 }, selected, start };
    Content::sealed(&[7; 32], &root, &[5, 6, 7].into(), &Arc::new(sealed))
}

fn entry_of(content: &Content) -> Entry {
    let Content { id, tenant, root_tokens, tokens, sealed, .. } = content.clone();
    Entry { id, tenant, root: root_tokens, tokens, sealed, pinned: false }
}

#[test]
fn a_record_is_what_its_identity_says_or_nothing() {
    let turn = turn(3);
    let entry = entry_of(&turn);
    assert_eq!(content_of(&[7; 32], &entry), Some(turn.clone()));
    assert_eq!(content_of(&[7; 32], &entry_of(&fragment(3))), Some(fragment(3)));
    let seen = turn.sealed.as_deref().unwrap();
    let with = |sealed: Sealed| Entry { sealed: Some(Arc::new(sealed)), ..entry.clone() };
    for other in [
        Entry { sealed: None, ..entry.clone() },
        Entry { sealed: turn.sealed.clone(), ..entry_of(&fragment(3)) },
        Entry { root: [2].into(), ..entry.clone() },
        Entry { root: [].into(), ..entry.clone() },
        Entry { tokens: [5, 6, 8].into(), ..entry.clone() },
        with(Sealed { start: 4, ..seen.clone() }),
        with(Sealed { saw: [fragment(3).id].into(), ..seen.clone() }),
        with(Sealed { selected: [].into(), ..seen.clone() }),
        with(Sealed { policy: JoinPolicy::Boundary { tokens: 2 }, ..seen.clone() }),
    ] {
        assert_eq!(content_of(&[7; 32], &other), None, "{other:?}");
    }
    assert_eq!(content_of(&[8; 32], &entry), None, "another model's");
}

#[test]
fn a_sealed_record_is_safe_once_the_tier_says_so_and_fetched_however_slow_it_is() {
    let (mut stored, turn) = (open(None), turn(3));
    assert!(!stored.admit(&turn), "nobody else can have sealed it");
    stored.whole(&turn);
    stored.answered(turn.id, true);
    assert!(stored.has(turn.id) && !stored.is_safe(turn.id), "it waits to be written");
    stored.take(Notice::Kept(turn.id), 1);
    assert!(stored.is_safe(turn.id) && stored.may_bring(turn.id, false));
    stored.encoded(Duration::from_millis(10), 1);
    for _ in 0..3 {
        assert!(stored.admit(&turn));
        stored.take(arrived(turn.id, 10_000), 1);
        stored.clear_arrived();
    }
    stored.check_integrity();
    stored.take(Notice::Gone(turn.id), 1);
    assert!(!stored.is_safe(turn.id) && !stored.may_bring(turn.id, true));
    stored.take(Notice::Kept(turn.id), 1);
    assert!(!stored.is_safe(turn.id), "a late word");
    stored.check_integrity();
}

/// The books of a tier that lists `kept`, and may have other records of 3 rows.
fn open(kept: Option<FragmentId>) -> Stored {
    let mut stored = Stored::default();
    stored.open(kept.into_iter(), Some(3));
    stored
}

fn arrived(id: FragmentId, millis: u64) -> Notice {
    Notice::Arrived { id, kv: Arc::new(vec![0; 4]), took: Duration::from_millis(millis) }
}

#[test]
fn a_shared_tier_is_asked_for_what_it_did_not_list() {
    let (mut stored, long, short) = (open(None), fragment(4), fragment(2));
    assert!(!stored.admit(&short) && stored.admit(&long) && stored.admit(&long));
    assert_eq!(stored.asks(), [Ask::Fetch(long.id)], "once");
    assert!(stored.is_fetching(long.id) && !stored.has(long.id), "not known to be kept");
    assert_eq!(stored.take(arrived(long.id, 1), 1), None);
    assert!(stored.has(long.id) && !stored.is_fetching(long.id));
    stored.check_integrity();
    stored.whole(&long);
    assert!(stored.is_idle(), "it need not be offered");
}

#[test]
fn what_a_waiting_job_needs_is_told_unless_it_is_asked_for() {
    let (long, short) = (fragment(4), fragment(2));
    let mut stored = open(None);
    stored.expect(&short);
    stored.expect(&long);
    assert_eq!(stored.asks(), [Ask::Expect(Box::new(long.entry()))], "not what is not there");
    stored.expect(&long);
    assert!(stored.admit(&long), "admitted in the same step");
    stored.expect(&long);
    assert_eq!(stored.asks(), [Ask::Fetch(long.id)]);
    let mut slow = open(Some(long.id));
    assert!(slow.admit(&long));
    slow.take(arrived(long.id, 10_000), 1);
    slow.encoded(Duration::from_millis(1), 1);
    assert_eq!(slow.asks(), [Ask::Fetch(long.id)]);
    slow.expect(&long);
    assert_eq!(slow.asks(), [], "encoding is quicker");
}

#[test]
fn what_a_shared_tier_does_not_have_is_offered_to_it() {
    let (mut stored, content) = (open(None), fragment(4));
    assert!(stored.admit(&content));
    assert_eq!(stored.take(Notice::Lost(content.id), 1), Some(content.id));
    assert!(!stored.has(content.id) && !stored.is_fetching(content.id));
    stored.check_integrity();
    stored.whole(&content);
    assert!(!stored.is_idle());
}

#[test]
fn a_removal_goes_to_a_shared_tier_whatever_is_known() {
    let (mut stored, content) = (open(None), fragment(4));
    stored.remove(content.id, 4);
    assert_eq!(stored.asks(), [Ask::Remove(content.id, 4)]);
    assert!(stored.admit(&content));
    stored.remove(content.id, 4);
    assert_eq!(stored.asks(), [Ask::Fetch(content.id), Ask::Remove(content.id, 4)]);
    assert_eq!(stored.take(arrived(content.id, 1), 1), None);
    assert!(!stored.has(content.id), "it was removed meanwhile");
    stored.check_integrity();
    stored.remove(fragment(2).id, 2);
    assert_eq!(stored.asks(), [], "so short ones are nowhere");
    let mut own = Stored::default();
    own.open(iter::empty(), None);
    own.remove(content.id, 4);
    assert_eq!(own.asks(), [], "an own tier keeps what it lists");
    assert!(!own.admit(&content));
}

#[test]
fn a_slow_shared_tier_does_not_speak_against_a_quick_one() {
    let (near, far) = (fragment(4), fragment(5));
    let mut stored = open(Some(near.id));
    stored.encoded(Duration::from_millis(10), 1);
    assert!(stored.admit(&far));
    stored.take(arrived(far.id, 1_000), 1);
    assert!(stored.admit(&near), "what is known to be kept comes from nearer");
    assert!(!stored.admit(&fragment(6)), "encoding was measured to be quicker");
    let asked = (0..32).filter(|_| stored.admit(&fragment(7))).count();
    assert!(asked > 0, "but is tried now and then");
}

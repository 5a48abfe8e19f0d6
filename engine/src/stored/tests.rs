//! What a tier is asked that may have more than it lists.

use super::{Ask, Stored};
use crate::{FragmentId, fragments::Content, tier::Notice};
use std::{iter, sync::Arc, time::Duration};

fn fragment(rows: u32) -> Content {
    let root = Content::root(&[7; 32], &"tenant".into(), &[1].into());
    Content::after(&[7; 32], &root, &(0..rows).collect())
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

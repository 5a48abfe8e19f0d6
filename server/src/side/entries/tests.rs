//! Which entries a kind takes.

use super::*;
use crate::side::{Clock, Inbox};

#[test]
fn entries_fit_their_kind() {
    let clock = Kind::Clock(Clock::new("%H", None, 1.0).unwrap());
    let inbox = Kind::Inbox(Inbox::default());
    let given = |text: &str| Some(text.to_owned());
    let text = NewEntry { text: given("x"), ..NewEntry::default() };
    let gist = NewEntry { gist: given("x"), from: given("a"), ..NewEntry::default() };
    let both = NewEntry { text: given("body"), ..gist.clone() };
    let from = NewEntry { from: given("a"), ..NewEntry::default() };
    let long = NewEntry { gist: Some("x".repeat(513)), ..NewEntry::default() };
    for (kind, entry, refused) in [
        (&Kind::Feed, &text, None),
        (&Kind::Log, &text, None),
        (&inbox, &gist, None),
        (&clock, &text, Some("a clock takes no entries; it writes the time by itself")),
        (&Kind::Feed, &gist, Some("entries of this feed have no gist: it takes text")),
        (&Kind::Log, &from, Some("entries of this log have no from: it takes text")),
        (&Kind::Feed, &NewEntry::default(), Some("entries of this feed need text: it takes text")),
        (
            &inbox,
            &both,
            Some(
                "entries of this inbox have no text: it takes gist, from and message, and never \
                 a body",
            ),
        ),
        (
            &inbox,
            &from,
            Some(
                "entries of this inbox need gist: it takes gist, from and message, and never a \
                 body",
            ),
        ),
        (&inbox, &long, Some("gist has 513 bytes; the limit is 512")),
    ] {
        let error = entry.check(kind).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), refused, "{entry:?}");
    }
}

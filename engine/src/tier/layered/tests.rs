//! Two tiers that do as they are told, and two that do as they please.

mod random;

use super::{Layered, Side};
use crate::{
    FragmentId,
    tier::{Entry, Figures, Kv, Notice, Tier},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Says and does what a test has it do, and notes what it is asked.
#[derive(Default)]
struct Puppet {
    /// `n` or `f`.
    name: char,
    log: Arc<Mutex<String>>,
    notices: VecDeque<Notice>,
    entries: Vec<Entry>,
    is_full: bool,
    rows_min: Option<usize>,
}

/// Held by the test and by the tier under test.
#[derive(Clone, Default)]
struct Strings(Arc<Mutex<Puppet>>);

impl Strings {
    fn new(name: char, log: &Arc<Mutex<String>>) -> Self {
        let log = log.clone();
        Self(Arc::new(Mutex::new(Puppet { name, log, ..Puppet::default() })))
    }

    fn note(&self, sign: &str) {
        let puppet = self.0.lock().unwrap();
        let mut log = puppet.log.lock().unwrap();
        log.push(puppet.name);
        log.push_str(sign);
        log.push(' ');
    }
}

impl Tier for Strings {
    fn entries(&mut self) -> Vec<Entry> {
        self.0.lock().unwrap().entries.clone()
    }

    fn unlisted_rows_min(&self) -> Option<usize> {
        self.0.lock().unwrap().rows_min
    }

    fn keep(&mut self, entry: Entry, kv: Kv) -> bool {
        assert_eq!((entry.id, &*kv), (record().id, &vec![1, 2, 3]));
        self.note(if entry.pinned { "*" } else { "+" });
        !self.0.lock().unwrap().is_full
    }

    fn fetch(&mut self, entry: Entry) {
        assert_eq!(entry.tokens, record().tokens);
        self.note("?");
    }

    fn expect(&mut self, entry: Entry) {
        assert_eq!(entry.tokens, record().tokens);
        self.note("e");
    }

    fn remove(&mut self, _: FragmentId, _: usize) {
        self.note("-");
    }

    fn pin(&mut self, _: FragmentId, pinned: bool) {
        self.note(if pinned { "!" } else { "~" });
    }

    fn poll(&mut self) -> Option<Notice> {
        self.0.lock().unwrap().notices.pop_front()
    }

    fn wait(&mut self, _: Duration) -> Option<Notice> {
        self.poll()
    }

    fn figures(&self) -> Figures {
        Figures { records: 1, write_errors: 2, ..Figures::default() }
    }

    fn close(&mut self) {
        self.note(".");
    }
}

fn record() -> Entry {
    let (root, tokens) = ([].into(), [7, 8].into());
    Entry {
        id: FragmentId([5; 16]),
        tenant: "tenant".into(),
        root,
        tokens,
        sealed: None,
        pinned: false,
    }
}

/// Plays a script about one record. Each step is something that happens, and then, after `>`, what is
/// asked of the tiers and what the loop is told. The near tier leads, or the far one.
///
/// The loop asks `+` keep, `?` fetch, `e` expect, `-` remove, `!` and `~` pin and unpin. The near (`n`) or the
/// far (`f`) tier says `K` kept, `G` gone, `A` arrived, `L` lost; or is full, `0`, or no more, `1`.
/// What the loop is told of a refused offer is `no`, and `R` that there may be room.
fn play_led_by(leads: Side, rows_min: Option<usize>, script: &[&str]) {
    let log = Arc::new(Mutex::new(String::new()));
    let [near, far] = ['n', 'f'].map(|name| Strings::new(name, &log));
    far.0.lock().unwrap().rows_min = rows_min;
    let mut tier = Layered::led_by(leads, Box::new(near.clone()), Box::new(far.clone()));
    assert_eq!(tier.entries(), []);
    let (entry, kv): (Entry, Kv) = (record(), Arc::new(vec![1, 2, 3]));
    let id = entry.id;
    for (number, step) in script.iter().enumerate() {
        let (event, expected) = step.split_once('>').unwrap();
        let mut told = String::new();
        let says = |side: &str, notice| {
            let strings = if side == "n" { &near } else { &far };
            strings.0.lock().unwrap().notices.push_back(notice);
        };
        match event.trim().split_at(1) {
            ("+", _) if !tier.keep(entry.clone(), kv.clone()) => told.push_str("no"),
            ("+", _) => {}
            ("?", _) => tier.fetch(entry.clone()),
            ("e", _) => tier.expect(entry.clone()),
            ("-", _) => tier.remove(id, entry.tokens.len()),
            ("!", _) => tier.pin(id, true),
            ("~", _) => tier.pin(id, false),
            ("n", full @ ("0" | "1")) => near.0.lock().unwrap().is_full = full == "0",
            ("f", full @ ("0" | "1")) => far.0.lock().unwrap().is_full = full == "0",
            (side, "K") => says(side, Notice::Kept(id)),
            (side, "G") => says(side, Notice::Gone(id)),
            (side, "L") => says(side, Notice::Lost(id)),
            (side, "A") => {
                says(side, Notice::Arrived { id, kv: kv.clone(), took: Duration::from_millis(1) });
            }
            other => panic!("{other:?}"),
        }
        // Either way to hear is as good.
        let heard = if number % 2 == 0 { tier.poll() } else { tier.wait(Duration::from_millis(4)) };
        told.push_str(match heard {
            None => "",
            Some(Notice::Kept(_)) => "K",
            Some(Notice::Gone(_)) => "G",
            Some(Notice::Lost(_)) => "L",
            Some(Notice::Arrived { .. }) => "A",
            Some(Notice::Room) => "R",
        });
        assert_eq!(tier.poll(), None, "one thing happens: {step}, step {number} of {script:?}");
        let mut asked = log.lock().unwrap();
        let got = format!("{}{told}", std::mem::take(&mut *asked));
        assert_eq!(got.trim(), expected.trim(), "{step}, step {number} of {script:?}");
    }
}

fn play(rows_min: Option<usize>, script: &[&str]) {
    play_led_by(Side::Near, rows_min, script);
}

#[test]
fn a_record_is_kept_while_either_has_it() {
    play(None, &["+ > n+ f+", "nK > K", "fK >", "nG >", "fG > G"]);
    play(None, &["+ > n+ f+", "fK > K", "nG >", "fG > G"]);
    play(Some(2), &["? > f?", "fA > n+ A", "nG >", "f0 >", "+ > n+ f+ K", "nG >", "fG > G"]);
    play(None, &["+ > n+ f+", "nG >", "fG > G", "+ > n+ f+", "fG >", "nK > K", "nG > G"]);
}

#[test]
fn the_near_tier_alone_says_that_it_is_too_much() {
    play(None, &["n0 >", "+ > n+ no", "n1 >", "+ > n+ f+", "nK > K"]);
    play(None, &["f0 >", "+ > n+ f+", "nK > K", "? > n?", "nA > A", "nG > G", "? > L"]);
}

#[test]
fn what_outlives_the_process_leads_before_memory() {
    let play = |script: &[&str]| play_led_by(Side::Far, None, script);
    play(&["+ > f+ n+", "nK > K", "fK >", "? > n?", "nA > A", "nG >", "? > f?", "fA > n+ A"]);
    play(&["f0 >", "+ > f+ no", "f1 >", "+ > f+ n+", "fK > K", "nK >", "nG >", "fG > G"]);
    play(&["n0 >", "+ > f+ n+", "fK > K", "? > f?", "fA > n+ A", "n1 >", "? > f?", "fA > n+ A"]);
}

/// What is no news otherwise is, to a loop that waits to offer a record again.
#[test]
fn a_refused_offer_is_followed_by_a_word() {
    let full = ["+ > n+ f+", "nK > K", "fK >", "n0 >", "+ > n+ no"];
    for news in [&["nK > R", "nK >"][..], &["fK >", "nK > R"], &["nG > R", "fG > G"]] {
        play(None, &[&full, news].concat());
    }
    let full = ["+ > f+ n+", "nK > K", "f0 >", "+ > f+ no"];
    for news in [&["fK > R", "fK >"][..], &["nK >", "fG > R", "nG > G"], &["fK > R"]] {
        play_led_by(Side::Far, None, &[&full, news].concat());
    }
}

#[test]
fn fetches_are_answered_by_the_last_that_is_asked() {
    play(None, &["+ > n+ f+", "nK > K", "? > n?", "nA > A", "? > n?", "nL > f?", "fA > n+ A"]);
    play(None, &["+ > n+ f+", "nK > K", "? > n?", "nL > f?", "fL > L", "? > L"]);
    play(None, &["+ > n+ f+", "nG >", "? > f?", "fA > n+ A", "nK > K"]);
    play(None, &["? > L"]);
}

#[test]
fn what_is_not_listed_is_asked_for_afar() {
    play(Some(2), &["? > f?", "fA > n+ A", "nK >", "? > n?", "nA > A", "nG >", "fG > G"]);
    play(Some(2), &["? > f?", "fL > L", "+ > n+ f+", "nK > K", "fK >"]);
    play(Some(3), &["? > L"]);
    play(Some(2), &["n0 >", "? > f?", "fA > n+ A", "? > f?", "fA > n+ A"]);
}

#[test]
fn what_is_expected_comes_nearer_and_nobody_is_told() {
    play(
        None,
        &["e >", "+ > n+ f+", "nG >", "e > f?", "e >", "fA > n+", "e > ne", "? > n?", "nA > A"],
    );
    play(Some(2), &["e > f?", "fA > n+", "? > n?", "nA > A"]);
    play(Some(2), &["e > f?", "fL >", "? > f?", "fL > L"]);
    play(Some(3), &["e >"]);
    // It was asked for before it came.
    play(Some(2), &["e > f?", "? >", "fA > n+ A"]);
    play(Some(2), &["e > f?", "? >", "fL > L"]);
    // What was said to be kept is not.
    play(None, &["+ > n+ f+", "fK > K", "nG >", "e > f?", "fL > G", "? > L"]);
    play(Some(2), &["e > f?", "- > n- f-", "fA >"]);
}

#[test]
fn what_was_removed_does_not_come_back() {
    play(Some(2), &["? > f?", "- > n- f-", "fA > A", "? > f?", "fL > L"]);
    play(Some(2), &["+ > n+ f+", "? > n?", "- > n- f-", "nL > L", "nG >", "fK >"]);
    play(None, &["+ > n+ f+", "- > n- f-", "nK >", "fK >", "? > L"]);
}

#[test]
fn pins_hold_for_what_is_on_its_way() {
    play(Some(2), &["? > f?", "! > n! f!", "fA > n* A", "~ > n~ f~"]);
}

#[test]
fn entries_are_told_once_and_asked_for_where_they_are() {
    let log = Arc::default();
    let [near, far] = ['n', 'f'].map(|name| Strings::new(name, &log));
    let other = Entry { id: FragmentId([6; 16]), ..record() };
    near.0.lock().unwrap().entries = vec![record()];
    far.0.lock().unwrap().entries = vec![record(), other.clone()];
    let mut tier = Layered::new(Box::new(near), Box::new(far));
    assert_eq!(tier.entries(), [other.clone(), record()]);
    tier.fetch(other);
    tier.fetch(record());
    assert_eq!(tier.poll(), None);
    let figures = tier.figures();
    assert_eq!((figures.records, figures.write_errors), (2, 4));
    tier.close();
    assert_eq!(*log.lock().unwrap(), "f? n? n. f. ");
}

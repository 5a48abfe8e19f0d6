//! Stop strings over text that comes in pieces.

use super::Stops;

/// Pieces pushed one by one give `emitted`, each piece's text in turn, then `rest`.
fn check(strings: &[&str], pieces: &[&str], emitted: &[&str], rest: &str, stopped: bool) {
    let strings = strings.iter().map(ToString::to_string).collect();
    let mut stops = Stops { strings, held: String::new(), stopped: false };
    let got: Vec<String> = pieces.iter().map(|piece| stops.push(piece)).collect();
    assert_eq!(got, emitted, "emitted for {pieces:?}");
    assert_eq!((stops.held.as_str(), stops.stopped), (rest, stopped), "rest for {pieces:?}");
}

#[test]
fn text_is_held_while_it_could_begin_a_stop_string() {
    check(&[], &["a", "b"], &["a", "b"], "", false);
    check(&["END"], &["a E", "N", "x"], &["a ", "", "ENx"], "", false);
    check(&["END"], &["a E", "N", "D z", "more"], &["a ", "", "", ""], "", true);
    check(&["END"], &["a E"], &["a "], "E", false);
    check(&["aab"], &["aa", "a", "b"], &["", "a", ""], "", true);
    check(&["\n\n", "x"], &["a\n", "b\n", "\nc"], &["a", "\nb", ""], "", true);
    check(&["bc", "ab"], &["zabc"], &["z"], "", true);
    check(&["é"], &["caf", "é!"], &["caf", ""], "", true);
    // "è" shares its first byte with "é": a cut within a character would panic.
    check(&["é"], &["è"], &["è"], "", false);
}

//! Entries within their bound, and what HTML says.

use super::*;

#[test]
fn an_entry_is_a_line_within_the_bound() {
    assert_eq!(entry(b"a line\r\n", 8).as_deref(), Some("a line\n"));
    assert_eq!(entry(b" \r\n", 3), None);
    assert_eq!(entry(b"a\xff\xfeb", 4).as_deref(), Some("a\u{fffd}\u{fffd}b\n"));
    assert_eq!(entry(b"begins", 99).as_deref(), Some("begins… (cut off: 99 bytes in all)\n"));
    // Bytes that are no UTF-8 take three as text.
    for byte in [b'x', 0xff] {
        let long = vec![byte; SIDE_ENTRY_BYTES_MAX];
        let text = entry(&long, long.len() as u64).unwrap();
        assert!(text.len() <= SIDE_ENTRY_BYTES_MAX, "{} bytes", text.len());
        assert!(text.ends_with("… (cut off: 65536 bytes in all)\n"));
    }
    assert_eq!(cut("aé", 2), "a");
}

#[test]
fn html_is_reduced_to_what_it_says() {
    for (html, text) in [
        ("plain", "plain"),
        ("<p>One</p><p>Two &amp; <b>three</b></p>", "One Two & three"),
        ("a<br/>b<em>c</em>d", "a bcd"),
        ("<script>if (a < b) alert('x')</script>after", "after"),
        ("<STYLE>p { }</STYLE >after<style>", "after"),
        ("<!-- <b>no</b> -->yes", "yes"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("&lt;b&gt; &eacute;&#233;&#xe9; &nbsp; &bogus;", "<b> ééé &bogus;"),
        ("<a href=\"x\">link</a>, <img src=x onerror=y>", "link,"),
        ("cut <b", "cut"),
        ("ends <", "ends <"),
        ("<é>", "<é>"),
        ("two\n\n lines\u{0}", "two lines"),
    ] {
        assert_eq!(of_html(html), text, "{html:?}");
    }
}

//! Feeds of all kinds, hostile ones among them.

use super::*;

fn texts(body: &str) -> Vec<String> {
    items(body.as_bytes()).expect("a feed").into_iter().map(|item| item.text).collect()
}

const RSS: &str = "<?xml version='1.0'?><rss version='2.0'><channel><title>t</title>
    <item><guid>2</guid><title>Second &amp;amp; last</title>
        <description>&lt;p&gt;It &lt;b&gt;rains&lt;/b&gt;.&lt;/p&gt;</description></item>
    <item><guid>1</guid><title>First</title></item>
    </channel></rss>";
const ATOM: &str = "<feed xmlns='http://www.w3.org/2005/Atom'><id>f</id><title>t</title>
    <entry><id>a</id><title>Old</title><updated>2026-01-01T00:00:00Z</updated>
        <summary>was</summary></entry>
    <entry><id>b</id><title>New</title><updated>2026-02-01T00:00:00Z</updated>
        <content type='html'>&lt;i&gt;is&lt;/i&gt;</content></entry></feed>";
const JSON: &str = r#"{"version": "https://jsonfeed.org/version/1.1", "title": "t", "items": [
    {"id": "2", "title": "Two", "content_text": "dos"}, {"id": "1", "content_html": "<p>uno</p>"}]}"#;

#[test]
fn feeds_of_all_kinds_are_read_oldest_first() {
    assert_eq!(texts(RSS), ["First\n", "Second & last — It rains.\n"]);
    assert_eq!(texts(ATOM), ["Old — was\n", "New — is\n"]);
    assert_eq!(texts(JSON), ["uno\n", "Two — dos\n"]);
}

#[test]
fn what_is_no_feed_is_none() {
    for body in ["", "text", "{\"a\": 1}", "[1]", "<html><body>x</body></html>", "<rss", "<a>"] {
        assert_eq!(items(body.as_bytes()), None, "{body:?}");
    }
    // Deep nesting is no way to bring the server down.
    for open in ["<a>", "{\"a\":", "<rss version='2.0'><channel><item><description><a>"] {
        let _ = items(open.repeat(50_000).as_bytes());
    }
    let xhtml = "<feed xmlns='http://www.w3.org/2005/Atom'><entry><id>a</id>\
                 <content type='xhtml'>";
    let _ = items((xhtml.to_owned() + &"<div>".repeat(100_000)).as_bytes());
}

#[test]
fn items_come_once() {
    let mut seen = Seen::default();
    let first = items(RSS.as_bytes()).unwrap();
    assert_eq!(seen.take_new(first.clone()).len(), 2);
    assert_eq!(seen.take_new(first.clone()), []);
    // Also those without an id, a link or a title.
    let bare = "<rss version='2.0'><channel><item><description>x</description></item>\
                </channel></rss>";
    assert_eq!(seen.take_new(items(bare.as_bytes()).unwrap()).len(), 1);
    assert_eq!(seen.take_new(items(bare.as_bytes()).unwrap()), []);
    // The memory is bounded.
    for n in 0..SOURCE_SEEN_MAX as u32 {
        let key = *blake3::hash(&n.to_le_bytes()).as_bytes();
        assert!(seen.is_new(key));
    }
    assert_eq!((seen.keys.len(), seen.order.len()), (SOURCE_SEEN_MAX, SOURCE_SEEN_MAX));
    assert_eq!(seen.take_new(first).len(), 2, "forgotten by then");
}

#[test]
fn long_items_and_long_feeds_are_cut_off() {
    let item = |n: usize| format!("<item><guid>{n}</guid><title>{n}</title></item>");
    let many: String = (0..SOURCE_ITEMS_MAX + 10).map(item).collect();
    let feed = format!("<rss version='2.0'><channel>{many}</channel></rss>");
    let texts_read = texts(&feed);
    assert_eq!((texts_read.len(), texts_read.last().unwrap().as_str()), (SOURCE_ITEMS_MAX, "0\n"));
    let long = "é".repeat(SOURCE_ITEM_BYTES_MAX);
    let feed =
        format!("<rss version='2.0'><channel><item><title>{long}</title></item></channel></rss>");
    let text = &texts(&feed)[0];
    assert!(text.ends_with("é…\n") && text.len() <= SOURCE_ITEM_BYTES_MAX + 4, "{}", text.len());
}

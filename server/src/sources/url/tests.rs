//! URLs of a small server on this machine, whose answers a test sets.

use super::*;
use crate::{
    limits::{SOURCE_REDIRECTS_MAX, SOURCE_RESPONSE_BYTES_MAX},
    sources::Hosts,
};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use std::sync::Mutex;

/// What the server answers, and what it was asked.
#[derive(Default)]
struct Script {
    status: u16,
    media_type: &'static str,
    body: String,
    etag: Option<&'static str>,
    location: Option<String>,
    asked: Vec<(String, HeaderMap)>,
}

type Shared = Arc<Mutex<Script>>;

struct Case {
    script: Shared,
    port: u16,
}

impl Case {
    async fn new(media_type: &'static str, body: impl Into<String>) -> Self {
        let script = Script { status: 200, media_type, body: body.into(), ..Script::default() };
        let script = Arc::new(Mutex::new(script));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&script));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { script, port }
    }

    /// Asks it by the name or address `host`, where `listed` may be asked.
    fn poller(&self, listed: &str, host: &str) -> Poller {
        let listed = listed.split_whitespace().map(|host| host.parse().unwrap());
        let url = Url::parse(&format!("http://{host}:{}/feed", self.port)).unwrap();
        Poller::new(url, Arc::new(Web::new(Hosts::new(listed))))
    }

    fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    fn asked(&self) -> usize {
        self.script.lock().unwrap().asked.len()
    }
}

async fn answer(State(script): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    let mut script = script.lock().unwrap();
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_known = known.is_some() && known == script.etag;
    script.asked.push((uri.path().to_owned(), headers));
    let mut answer = HeaderMap::new();
    if let Some(location) = &script.location {
        answer.insert(header::LOCATION, location.parse().unwrap());
    }
    if let Some(etag) = script.etag {
        answer.insert(header::ETAG, etag.parse().unwrap());
    }
    if is_known {
        return (StatusCode::NOT_MODIFIED, answer).into_response();
    }
    if !script.media_type.is_empty() {
        answer.insert(header::CONTENT_TYPE, script.media_type.parse().unwrap());
    }
    let status = StatusCode::from_u16(script.status).unwrap();
    (status, answer, axum::body::Body::from(script.body.clone())).into_response()
}

const LOCAL: &str = "127.0.0.1";

fn rss(items: &[u32]) -> String {
    let item = |n: &u32| format!("<item><guid>{n}</guid><title>item {n}</title></item>");
    let items: String = items.iter().map(item).collect();
    format!("<rss version='2.0'><channel><title>t</title>{items}</channel></rss>")
}

async fn fails(poller: &mut Poller) -> String {
    poller.poll().await.expect_err("a failure").to_string()
}

#[tokio::test]
async fn each_new_item_of_a_feed_is_an_entry() {
    let case = Case::new("application/rss+xml; charset=utf-8", rss(&[2, 1])).await;
    let mut poller = case.poller(LOCAL, LOCAL);
    assert_eq!(poller.poll().await.unwrap(), ["item 1\n", "item 2\n"]);
    assert_eq!(poller.poll().await.unwrap(), [""; 0]);
    case.set(|script| script.body = rss(&[4, 3, 2]));
    assert_eq!(poller.poll().await.unwrap(), ["item 3\n", "item 4\n"]);
    // Whatever it is called; and another kind of feed is a feed.
    case.set(|script| {
        script.media_type = "application/feed+json";
        script.body = r#"{"version": "https://jsonfeed.org/version/1.1", "title": "t",
            "items": [{"id": "5", "content_text": "five"}, {"id": "4"}]}"#
            .to_owned();
    });
    assert_eq!(poller.poll().await.unwrap(), ["five\n"]);
    case.set(|script| {
        script.media_type = "text/plain";
        script.body = "<feed xmlns='http://www.w3.org/2005/Atom'><id>f</id><title>t</title>\
                       <entry><id>6</id><title>six</title></entry></feed>"
            .to_owned();
    });
    assert_eq!(poller.poll().await.unwrap(), ["six\n"]);
}

#[tokio::test]
async fn other_text_is_an_entry_whenever_it_changes() {
    let case = Case::new("text/plain", "all is well\n").await;
    let mut poller = case.poller(LOCAL, LOCAL);
    assert_eq!(poller.poll().await.unwrap(), ["all is well\n"]);
    assert_eq!(poller.poll().await.unwrap(), [""; 0]);
    case.set(|script| (script.media_type, script.body) = ("application/json", "{\"a\": 1}".into()));
    assert_eq!(poller.poll().await.unwrap(), ["{\"a\": 1}\n"]);
    case.set(|script| (script.media_type, script.body) = ("text/html", "<p>x</p>".into()));
    let error = fails(&mut poller).await;
    assert!(error.contains("(text/html) is neither a feed, nor text, nor JSON"), "{error}");
}

#[tokio::test]
async fn what_did_not_change_is_not_sent_again() {
    let case = Case::new("text/plain", "one").await;
    case.set(|script| script.etag = Some("\"v1\""));
    let mut poller = case.poller(LOCAL, LOCAL);
    assert_eq!(poller.poll().await.unwrap(), ["one\n"]);
    case.set(|script| script.body = "not read: the tag is the same".into());
    assert_eq!(poller.poll().await.unwrap(), [""; 0]);
    case.set(|script| script.etag = Some("\"v2\""));
    assert_eq!(poller.poll().await.unwrap().len(), 1);
    let script = case.script.lock().unwrap();
    let sent = |n: usize| script.asked[n].1.get(header::IF_NONE_MATCH);
    assert_eq!(sent(0), None);
    assert_eq!(sent(1).unwrap(), "\"v1\"");
}

#[tokio::test]
async fn a_failure_is_told_and_gone_when_it_is_over() {
    let case = Case::new("text/plain", "one").await;
    let mut poller = case.poller(LOCAL, LOCAL);
    case.set(|script| script.status = 500);
    assert_eq!(fails(&mut poller).await, "the answer was 500 Internal Server Error");
    case.set(|script| script.status = 200);
    assert_eq!(poller.poll().await.unwrap(), ["one\n"]);
    case.set(|script| script.body = "x".repeat(SOURCE_RESPONSE_BYTES_MAX + 1));
    assert_eq!(fails(&mut poller).await, "the answer has more than 1048576 bytes");
    case.set(|script| script.body = "two".into());
    assert_eq!(poller.poll().await.unwrap(), ["two\n"]);
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let mut poller = Case { script: Shared::default(), port }.poller(LOCAL, LOCAL);
    assert!(fails(&mut poller).await.starts_with("no answer: "));
}

#[tokio::test]
async fn redirects_are_followed_where_they_may_lead() {
    let case = Case::new("text/plain", "").await;
    let other = Case::new("text/plain", "there").await;
    let mut poller = case.poller(LOCAL, LOCAL);
    let port = other.port;
    case.set(|script| {
        script.status = 302;
        script.location = Some(format!("http://127.0.0.1:{port}/moved"));
    });
    assert_eq!(poller.poll().await.unwrap(), ["there\n"]);
    assert_eq!(other.script.lock().unwrap().asked[0].0, "/moved");
    for (location, part) in [
        (format!("http://127.0.0.2:{port}/"), "127.0.0.2 is not a host that may be asked"),
        (format!("http://[::ffff:10.0.0.1]:{port}/"), "is not a host that may be asked"),
        ("http://169.254.169.254/latest/meta-data".to_owned(), "--allow-url 169.254.169.254"),
        (format!("http://name:secret@127.0.0.1:{port}/"), "a name or a password"),
        ("file:///etc/passwd".to_owned(), "it must be http or https"),
        ("/feed".to_owned(), "redirected more than 5 times"),
    ] {
        let before = (case.asked(), other.asked());
        case.set(|script| script.location = Some(location.clone()));
        let error = fails(&mut poller).await;
        assert!(error.contains(part), "{location}: {error}");
        let steps = if location == "/feed" { SOURCE_REDIRECTS_MAX + 1 } else { 1 };
        assert_eq!((case.asked(), other.asked()), (before.0 + steps, before.1), "{location}");
    }
    // Public hosts may be asked, and this server has been: it is listed. What it names is not.
    let mut poller = case.poller("* 127.0.0.1", LOCAL);
    case.set(|script| script.location = Some(format!("http://127.0.0.2:{port}/")));
    assert!(fails(&mut poller).await.contains("127.0.0.2, which is no public address"));
}

#[tokio::test]
async fn names_of_this_machine_are_no_public_hosts() {
    let case = Case::new("text/plain", "mine").await;
    let error = fails(&mut case.poller("*", "localhost")).await;
    assert!(error.contains("localhost is at "), "{error}");
    assert!(error.contains("only `cento serve --allow-url localhost`"), "{error}");
    assert_eq!(case.asked(), 0, "nothing was sent");
    assert_eq!(case.poller("localhost", "localhost").poll().await.unwrap(), ["mine\n"]);
    // Listed by its address.
    assert_eq!(case.poller("* 127.0.0.1", "localhost").poll().await.unwrap(), ["mine\n"]);
    let error = fails(&mut case.poller("*", "nowhere.invalid")).await;
    assert!(error.contains("nowhere.invalid has no address"), "{error}");
}

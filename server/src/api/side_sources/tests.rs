//! Sources as they are asked for.

use super::*;
use serde_json::json;

#[test]
fn sources_are_taken_or_refused_by_field() {
    let seconds = Duration::from_secs;
    for (body, kind, expected) in [
        (
            json!({"file": "/x"}),
            Kind::Feed,
            Ok(SourceSpec::File { path: "/x".into(), from: Begin::End }),
        ),
        (
            json!({"file": "/x", "from": "start"}),
            Kind::Log,
            Ok(SourceSpec::File { path: "/x".into(), from: Begin::Start }),
        ),
        (
            json!({"url": "http://x/"}),
            Kind::Feed,
            Ok(SourceSpec::Url { url: "http://x/".into(), every: seconds(300) }),
        ),
        (
            json!({"command": "load", "every_seconds": 1}),
            Kind::Feed,
            Ok(SourceSpec::Command { name: "load".into(), every: seconds(1) }),
        ),
        (json!({}), Kind::Feed, Err("source: give one of `file`, `url`, `command`")),
        (
            json!({"file": "/x", "url": "http://x/"}),
            Kind::Feed,
            Err("source: give one of `file`, `url`, `command`"),
        ),
        (
            json!({"file": "/x", "every_seconds": 1}),
            Kind::Feed,
            Err("source.every_seconds is not for a file"),
        ),
        (
            json!({"url": "http://x/", "from": "end"}),
            Kind::Feed,
            Err("source.from is not for a url"),
        ),
        (
            json!({"file": "/x", "from": "middle"}),
            Kind::Feed,
            Err("source.from is \"middle\"; it must be \"end\" or \"start\""),
        ),
        (
            json!({"url": "http://x/", "every_seconds": 4.9}),
            Kind::Feed,
            Err("source.every_seconds is 4.9; it must be from 5 to 86400"),
        ),
        (
            json!({"command": "load", "every_seconds": 0}),
            Kind::Feed,
            Err("source.every_seconds is 0; it must be from 1 to 86400"),
        ),
        (
            json!({"file": "/x"}),
            Kind::Inbox(crate::side::Inbox::default()),
            Err("kind inbox takes no source; feed and log do"),
        ),
    ] {
        let given: SourceBody = serde_json::from_value(body.clone()).unwrap();
        let spec = given.spec(&kind).map_err(|error| error.message().to_owned());
        assert_eq!(spec, expected.map_err(str::to_owned), "{body}");
    }
}

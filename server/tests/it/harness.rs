//! A server in memory, and calls to it.

use crate::letters::{self, Letters};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use cento::{
    ApiKeys, AppState, FragmentNames, Limits, ModelInfo, Parts, Profile, Time, app,
    sources::Allowed,
};
use engine::{Config, Disk, DiskConfig, Engine, Origin, Tier};
use models::{KvDtype, Model as _};
use serde_json::Value;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tower::ServiceExt as _;

/// How a test server differs from the usual one.
pub(crate) struct Setup {
    /// Time a batch takes.
    pub(crate) step: Duration,
    pub(crate) keys: ApiKeys,
    pub(crate) limits: Limits,
    pub(crate) waiting_max: usize,
    pub(crate) running_max: usize,
    pub(crate) profile: Profile,
    pub(crate) allowed: Allowed,
    /// A folder where KV is kept.
    pub(crate) cache: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            step: Duration::ZERO,
            keys: ApiKeys::default(),
            limits: Limits { body_bytes_max: 1 << 16, ..Limits::DEFAULT },
            waiting_max: 8,
            running_max: 4,
            profile: Profile::default(),
            allowed: Allowed::default(),
            cache: None,
        }
    }
}

impl Setup {
    /// A server whose batches take long enough for a test to act between them.
    pub(crate) fn slow() -> Self {
        Self { step: Duration::from_micros(500), ..Self::default() }
    }

    pub(crate) fn state(self) -> Arc<AppState> {
        let time = Time::system();
        let tokenizer = letters::tokenizer();
        let config = Config {
            waiting_max: self.waiting_max,
            running_max: self.running_max,
            prefill_rows_per_step: 64,
            fragments_max: 64,
        };
        let model = Box::new(Letters::new(self.step));
        let disk = self.cache.map(|dir| {
            let origin = Origin::new(model.shape(), "letters", KvDtype::F32);
            DiskConfig { dir, bytes_max: 1 << 20, origin }
        });
        let folder = disk.as_ref().map(DiskConfig::folder);
        let tier =
            disk.map(|disk| -> Box<dyn Tier> { Box::new(Disk::open(disk, time.clock()).unwrap()) });
        let texts = Some(Arc::clone(&tokenizer));
        let engine = Engine::start_over(model, texts, config, time.clock(), tier);
        let fragment_names =
            folder.map_or_else(FragmentNames::new, |folder| FragmentNames::kept_in(&folder));
        AppState::new(Parts {
            allowed: self.allowed,
            fragment_names,
            profile: self.profile,
            engine,
            turns: letters::turns(&tokenizer),
            tokenizer,
            model: ModelInfo { id: "letters".into(), arch: "none".into(), created: 1 },
            keys: self.keys,
            time,
            limits: self.limits,
        })
    }

    pub(crate) fn app(self) -> Router {
        app(self.state())
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The answer's JSON when its status is `status`.
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json()
    }
}

pub(crate) async fn send(app: &Router, request: Request<Body>) -> Answer {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Answer { status: parts.status, headers: parts.headers, text }
}

/// `METHOD /path` with a body as it is.
pub(crate) async fn call(app: &Router, line: &str, body: impl Into<Body>) -> Answer {
    let (method, path) = line.split_once(' ').unwrap();
    let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
    send(app, request).await
}

/// `METHOD /path` with JSON.
pub(crate) async fn call_json(app: &Router, line: &str, body: Value) -> Answer {
    call(app, line, body.to_string()).await
}

/// A metric's value.
pub(crate) async fn metric(app: &Router, name: &str) -> f64 {
    let text = call(app, "GET /metrics", "").await.text;
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// Waits until a metric is as wanted; panics when it does not get there.
pub(crate) async fn wait_for_metric(app: &Router, name: &str, wanted: impl Fn(f64) -> bool) {
    for _ in 0..500 {
        if wanted(metric(app, name).await) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} stays {}", metric(app, name).await);
}

/// A server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SseEvent {
    pub(crate) id: Option<usize>,
    pub(crate) kind: String,
    pub(crate) data: String,
}

impl SseEvent {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// Events of a stream; comments are left out.
pub(crate) fn events(text: &str) -> Vec<SseEvent> {
    let mut events = Vec::new();
    for block in text.split("\n\n") {
        let field = |name: &str| {
            let prefix = format!("{name}: ");
            block.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
        };
        if let Some(data) = field("data") {
            let id = field("id").map(|id| id.parse().unwrap());
            events.push(SseEvent { id, kind: field("event").unwrap_or_default(), data });
        }
    }
    events
}

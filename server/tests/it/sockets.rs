//! What only a real connection shows: clients that go away, and the server's end.

use crate::harness::{Setup, call, call_json, events, wait_for_metric};
use axum::Router;
use cento::{AppState, Ended, serve};
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

/// A server on a loopback socket.
struct Served {
    address: SocketAddr,
    /// The same server in memory.
    app: Router,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<std::io::Result<Ended>>,
}

impl Served {
    async fn start(state: Arc<AppState>, grace: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = cento::app(Arc::clone(&state));
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(serve(
            listener,
            state,
            async move {
                let _ = stopped.await;
            },
            grace,
        ));
        Self { address, app, stop: Some(stop), ended }
    }

    /// Tells it to stop and waits for the end.
    async fn stop(mut self) -> Ended {
        self.tell_to_stop();
        self.ended.await.unwrap().unwrap()
    }

    fn tell_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// A connection with a request on its way.
    fn post(&self, path: &str, body: &Value) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).unwrap();
        let body = body.to_string();
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", body.len());
        write!(socket, "{head}Connection: close\r\n\r\n{body}").unwrap();
        socket
    }
}

fn long(stream: bool) -> Value {
    json!({"tail": [{"text": "-"}], "stream": stream, "max_tokens": 1_000_000, "temperature": 0})
}

/// Reads until `wanted` has come.
fn read_until(socket: &mut TcpStream, wanted: &str) -> String {
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.contains(wanted) {
        let read = socket.read(&mut bytes).unwrap();
        assert!(read > 0, "the connection ended before {wanted:?}: {text}");
        text += std::str::from_utf8(&bytes[..read]).unwrap();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_frees_its_pages() {
    for stream in [true, false] {
        let served = Served::start(Setup::slow().state(), Duration::ZERO).await;
        let mut socket = served.post("/v1/generate", &long(stream));
        if stream {
            tokio::task::block_in_place(|| read_until(&mut socket, "generation.token"));
        }
        wait_for_metric(&served.app, "cento_generations_running", |n| n == 1.0).await;
        wait_for_metric(&served.app, "cento_pages_sequences", |n| n > 0.0).await;
        drop(socket);
        wait_for_metric(&served.app, "cento_generations_running", |n| n == 0.0).await;
        wait_for_metric(&served.app, "cento_pages_sequences", |n| n == 0.0).await;
        let cancelled = "cento_generations_total{outcome=\"cancelled\"}";
        wait_for_metric(&served.app, cancelled, |n| n == 1.0).await;
        assert_eq!(served.stop().await, Ended::Told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_reader_keeps_a_generation_alive() {
    let served = Served::start(Setup::slow().state(), Duration::ZERO).await;
    let mut first = served.post("/v1/generate", &long(true));
    let head = tokio::task::block_in_place(|| read_until(&mut first, "\n\n"));
    let head = tokio::task::block_in_place(|| head + &read_until(&mut first, "generation.token"));
    let from = head.find("gen_").unwrap();
    let id = head[from..from + 36].to_owned();
    let mut second = TcpStream::connect(served.address).unwrap();
    write!(second, "GET /v1/generations/{id}/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    tokio::task::block_in_place(|| read_until(&mut second, "generation.token"));
    drop(first);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let path = format!("GET /v1/generations/{id}");
    assert_eq!(call(&served.app, &path, "").await.expect(200)["status"], "in_progress");
    drop(second);
    wait_for_metric(&served.app, "cento_pages_sequences", |n| n == 0.0).await;
    assert_eq!(call(&served.app, &path, "").await.expect(200)["status"], "cancelled");
    assert_eq!(served.stop().await, Ended::Told);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_streams_end_within_the_grace() {
    let mut served = Served::start(Setup::slow().state(), Duration::from_mins(1)).await;
    let mut body = long(true);
    body["max_tokens"] = 300.into();
    let mut socket = served.post("/v1/generate", &body);
    tokio::task::block_in_place(|| read_until(&mut socket, "generation.token"));
    served.tell_to_stop();
    let rest = tokio::task::block_in_place(|| read_until(&mut socket, "[DONE]"));
    assert!(rest.contains("generation.completed"), "{rest}");
    assert_eq!(served.ended.await.unwrap().unwrap(), Ended::Told);
    assert!(TcpStream::connect(served.address).is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_cancels_what_outlasts_the_grace() {
    let mut served = Served::start(Setup::slow().state(), Duration::from_millis(50)).await;
    let mut socket = served.post("/v1/generate", &long(true));
    let whole = served.post("/v1/generate", &long(false));
    tokio::task::block_in_place(|| read_until(&mut socket, "generation.token"));
    wait_for_metric(&served.app, "cento_generations_running", |n| n == 2.0).await;
    served.tell_to_stop();
    let rest = tokio::task::block_in_place(|| read_until(&mut socket, "[DONE]"));
    let last = events(&rest).into_iter().find(|event| event.kind.starts_with("generation.can"));
    let last = last.unwrap_or_else(|| panic!("no terminal event: {rest}")).json();
    assert_eq!(last["generation"]["finish_reason"], "cancelled");
    let mut whole = whole;
    let answer = tokio::task::block_in_place(|| read_until(&mut whole, "\"cancelled\""));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(served.ended.await.unwrap().unwrap(), Ended::Told);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_answered_before_the_connection_closes() {
    let served = Served::start(Setup::default().state(), Duration::ZERO).await;
    let body = json!({"tail": [{"text": "x".repeat(100_000)}]});
    let mut socket = served.post("/v1/generate", &body);
    let answer = tokio::task::block_in_place(|| {
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text
    });
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("65536") && answer.contains("100022"), "{answer}");
    served.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_sources_and_streams_of_side_contexts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("id");
    let script = format!("sh -c 'echo $$ > {}; exec sleep 600'", file.display());
    let commands = [("hang".to_owned(), script.parse().unwrap())].into();
    let allowed = cento::sources::Allowed { commands, ..Default::default() };
    let state = Setup { allowed, ..Setup::default() }.state();
    let served = Served::start(state, Duration::ZERO).await;
    let body = json!({"kind": "feed", "source": {"command": "hang"}});
    let made = call_json(&served.app, "POST /v1/side-contexts", body).await.expect(200);
    let id = made["id"].as_str().unwrap();
    call_json(
        &served.app,
        &format!("POST /v1/side-contexts/{id}/entries"),
        json!({"text": "here"}),
    )
    .await
    .expect(200);
    let mut socket = TcpStream::connect(served.address).unwrap();
    write!(socket, "GET /v1/side-contexts/{id}/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    tokio::task::block_in_place(|| read_until(&mut socket, "side_context.changed"));
    let command = loop {
        match std::fs::read_to_string(&file) {
            Ok(id) if id.ends_with('\n') => break format!("/proc/{}/stat", id.trim()),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    // A zombie is dead: it is only not looked at yet.
    let runs = || std::fs::read_to_string(&command).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(runs());
    let stopping = tokio::time::timeout(Duration::from_secs(4), served.stop());
    assert_eq!(stopping.await.expect("no stream holds it up"), Ended::Told);
    for _ in 0..100 {
        if !runs() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the command outlives the server");
}

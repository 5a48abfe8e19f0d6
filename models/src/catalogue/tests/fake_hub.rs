//! A hub on this machine: one repository, one file, over plain HTTP.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

/// A hub that serves `someone/fake`, file `fake.gguf`.
pub(super) struct FakeHub {
    /// Where it listens.
    pub(super) endpoint: String,
    /// What it heard and may do.
    pub(super) state: Arc<State>,
}

/// What a fake hub serves, and what it was asked.
pub(super) struct State {
    content: Vec<u8>,
    sha256: Option<String>,
    /// It fails every read that ends past this byte.
    pub(super) reads_end_at: AtomicU64,
    /// Bytes it has sent of the file.
    pub(super) sent: AtomicU64,
    /// Requests it has answered.
    pub(super) requests: AtomicUsize,
}

impl FakeHub {
    /// Starts one; with `sha256` it states a checksum. It ends with the test's process.
    pub(super) fn start(content: &[u8], sha256: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            content: content.to_vec(),
            sha256,
            reads_end_at: AtomicU64::new(u64::MAX),
            sent: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
        });
        let served = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&served);
                thread::spawn(move || state.serve(&stream.unwrap()));
            }
        });
        Self { endpoint, state }
    }
}

impl State {
    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let (mut length, mut range) = (0, None);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let header = header.trim().to_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            if let Some(value) = header.strip_prefix("range: bytes=") {
                let (start, end) = value.split_once('-').unwrap();
                range = Some((start.parse::<usize>().unwrap(), end.parse::<usize>().unwrap()));
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        self.requests.fetch_add(1, Ordering::SeqCst);
        let (status, body) = self.answer(&line, range);
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let mut writer = stream;
        let _ = writer.write_all(head.as_bytes());
        if !line.starts_with("HEAD") {
            let _ = writer.write_all(&body);
        }
    }

    fn answer(&self, line: &str, range: Option<(usize, usize)>) -> (&'static str, Vec<u8>) {
        let size = self.content.len();
        if line.starts_with("POST /api/models/someone/fake/paths-info/main ") {
            let lfs = match &self.sha256 {
                Some(sha256) => format!(r#"{{"size":{size},"sha256":"{sha256}","pointerSize":1}}"#),
                None => "null".to_owned(),
            };
            let file = format!(
                r#"[{{"type":"file","oid":"v1","size":{size},"path":"fake.gguf","lfs":{lfs}}}]"#
            );
            return ("200 OK", file.into_bytes());
        }
        match (line.split(' ').nth(1), range) {
            (Some("/someone/fake/resolve/main/fake.gguf"), None) => {
                ("200 OK", self.content.clone())
            }
            (Some("/someone/fake/resolve/main/fake.gguf"), Some((start, end))) => {
                if end as u64 >= self.reads_end_at.load(Ordering::SeqCst) {
                    return ("500 Internal Server Error", Vec::new());
                }
                let bytes = self.content[start..=end].to_vec();
                self.sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                ("206 Partial Content", bytes)
            }
            _ => ("404 Not Found", Vec::new()),
        }
    }
}

//! The server's HTTP API, on this machine only: calls, and the events of a stream.

use anyhow::{Context, bail, ensure};
use reqwest::{Response, Url, header::RETRY_AFTER};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

/// Longer than any answer takes: who is silent for so long has hung.
const PATIENCE: Duration = Duration::from_mins(10);

/// A server.
pub(crate) struct Api {
    base: String,
    http: reqwest::Client,
}

/// An answer sent whole.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u64>,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) async fn read(response: Response) -> reqwest::Result<Self> {
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|seconds| seconds.parse().ok());
        Ok(Self { status, retry_after, text: response.text().await? })
    }

    pub(crate) fn json<T: for<'a> Deserialize<'a>>(&self) -> anyhow::Result<T> {
        serde_json::from_str(&self.text).with_context(|| format!("answered {:?}", self.text))
    }
}

impl Api {
    /// Refuses addresses of other machines.
    pub(crate) fn open(base: &str) -> anyhow::Result<Self> {
        let url = Url::parse(base).with_context(|| format!("{base:?} is no address"))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let address = host.parse::<IpAddr>().ok();
        let is_here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        ensure!(
            is_here && url.scheme() == "http",
            "{base}: only http:// addresses of this machine (127.0.0.1, [::1], localhost) are put \
             under load"
        );
        let builder = reqwest::Client::builder().no_proxy().tcp_nodelay(true).timeout(PATIENCE);
        let http = builder.redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), http })
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> reqwest::Result<Response> {
        let method = method.parse().expect("a method's name");
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request.send().await
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> reqwest::Result<Reply> {
        Reply::read(self.send(method, path, body).await?).await
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Reply> {
        let reply = self.call("GET", path, None).await.with_context(|| path.to_owned())?;
        ensure!(reply.status == 200, "{path}: {}: {}", reply.status, reply.text);
        Ok(reply)
    }

    /// Waits until the engine answers.
    pub(crate) async fn healthy(&self, limit: Duration) -> anyhow::Result<()> {
        let healthy = async {
            while self.get("/health").await.is_err() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let within = tokio::time::timeout(limit, healthy).await;
        within.with_context(|| format!("{} is not healthy after {limit:?}", self.base))
    }

    /// The model that is served, and its context in tokens.
    pub(crate) async fn model(&self) -> anyhow::Result<(String, usize)> {
        let models: Value = self.get("/v1/models").await?.json()?;
        let model = &models["data"][0];
        match (model["id"].as_str(), model["context_length"].as_u64()) {
            (Some(name), Some(context)) => Ok((name.to_owned(), context as usize)),
            _ => bail!("/v1/models answered {models}"),
        }
    }

    /// Every line of `/metrics`, by its name and labels.
    pub(crate) async fn metrics(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let text = self.get("/metrics").await?.text;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.rsplit_once(' '));
        Ok(pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }
}

/// The events of a stream.
pub(crate) struct Events {
    response: Response,
    buffer: Vec<u8>,
}

impl Events {
    pub(crate) fn new(response: Response) -> Self {
        Self { response, buffer: Vec::new() }
    }

    /// The data of the next event; nothing once the connection has ended.
    pub(crate) async fn next(&mut self) -> reqwest::Result<Option<String>> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let event = String::from_utf8_lossy(&event);
                // Comments that keep the connection alive have no data.
                let data = event.lines().find_map(|line| line.strip_prefix("data:"));
                if let Some(data) = data {
                    return Ok(Some(data.trim_start().to_owned()));
                }
            }
            match self.response.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

//! A running server, over its HTTP API. Token ids are made here and sent as they are.

use super::{Answer, Backend, Call, Card};
use crate::arm::Joined;
use anyhow::{Context as _, anyhow, bail};
use engine::{JoinPolicy, TokenLogprob};
use models::TokenId;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// A server's own limit for whole answers is below this.
const TIMEOUT: Duration = Duration::from_mins(20);

/// A server and its one model.
pub(crate) struct Http {
    base: String,
    key: Option<String>,
    client: reqwest::Client,
    /// Calls are made one after another: what is timed should not wait for its like.
    runtime: Runtime,
    card: Card,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    context_length: usize,
    fingerprint: String,
}

/// The part of a generation that is read.
#[derive(Deserialize)]
struct Generation {
    tokens: Vec<TokenId>,
    #[serde(default)]
    logprobs: Vec<Score>,
    join: Join,
    timings: Timings,
}

#[derive(Deserialize)]
struct Score {
    token: TokenId,
    logprob: f32,
    top: Vec<(TokenId, f32)>,
}

#[derive(Deserialize)]
struct Join {
    exact: bool,
    reused_tokens: usize,
    encoded_tokens: usize,
    prefix_reused_tokens: usize,
    recomputed_share: f64,
}

#[derive(Deserialize)]
struct Timings {
    first_token_ms: f64,
}

impl Http {
    /// Asks the server at `base` for its model, which must be `model`: token ids are made with
    /// that model's tokenizer.
    pub(crate) fn open(base: &str, key: Option<String>, model: &str) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        // A server to be measured is named by its address; nothing should stand in between.
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        let base = base.trim_end_matches('/').to_owned();
        let card = Card {
            name: model.to_owned(),
            fingerprint: String::new(),
            context_max: 0,
            through: "http".to_owned(),
            isa: None,
            threads: None,
        };
        let mut server = Self { base, key, client, runtime, card };
        let models: Models = server.call("GET", "/v1/models", None)?;
        let [served] = &models.data[..] else {
            bail!("{} serves {} models, not one", server.base, models.data.len());
        };
        if served.id != model {
            bail!("{} serves {:?}; --model is {model:?}", server.base, served.id);
        }
        server.card.fingerprint.clone_from(&served.fingerprint);
        server.card.context_max = served.context_length;
        Ok(server)
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<T> {
        let url = format!("{}{path}", self.base);
        let method = method.parse().expect("a method's name");
        let mut request = self.client.request(method, &url);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let (status, text) = self
            .runtime
            .block_on(async {
                let response = request.send().await?;
                Ok::<_, reqwest::Error>((response.status(), response.text().await?))
            })
            .with_context(|| format!("calling {url}"))?;
        if !status.is_success() {
            let error: Option<Value> = serde_json::from_str(&text).ok();
            let message = error.as_ref().and_then(|error| error["error"]["message"].as_str());
            return Err(anyhow!("{url}: {status}: {}", message.unwrap_or(&text)));
        }
        serde_json::from_str(&text).with_context(|| format!("{url} answered something else"))
    }
}

impl Backend for Http {
    fn card(&self) -> &Card {
        &self.card
    }

    fn encode(&mut self, _: &str, joined: &Joined) -> anyhow::Result<()> {
        for tokens in &joined.placements {
            let body = json!({"tokens": tokens, "root": {"tokens": joined.root}});
            self.call::<Value>("POST", "/v1/fragments", Some(&body))?;
        }
        Ok(())
    }

    fn generate(&mut self, call: &Call<'_>) -> anyhow::Result<Answer> {
        let Joined { policy, root, placements, kv: _ } = call.joined;
        let compose: Vec<_> = placements.iter().map(|tokens| json!({"tokens": tokens})).collect();
        let body = json!({
            "root": {"tokens": root},
            "compose": compose,
            "tail": [{"tokens": call.tail}],
            "join": join(policy),
            "forced": call.forced,
            "max_tokens": call.max_tokens,
            "temperature": 0,
            "seed": 0,
            "logprobs": call.logprobs,
        });
        let Generation { tokens, logprobs, join, timings } =
            self.call("POST", "/v1/generate", Some(&body))?;
        let scores = logprobs.into_iter();
        let scores =
            scores.map(|Score { token, logprob, top }| TokenLogprob { token, logprob, top });
        Ok(Answer {
            tokens,
            scores: scores.collect(),
            exact: join.exact,
            reused: join.reused_tokens,
            encoded: join.encoded_tokens,
            prefix_reused: join.prefix_reused_tokens,
            recomputed_share: join.recomputed_share,
            first_token_ms: timings.first_token_ms,
        })
    }

    fn has_tenants(&self) -> bool {
        false
    }
}

/// A policy as the API takes it.
fn join(policy: &JoinPolicy) -> Value {
    let mut join = json!({"policy": policy.form().name});
    for (parameter, value) in policy.values() {
        let number = if parameter.is_whole { json!(value as u64) } else { json!(value) };
        join[parameter.name] = number;
    }
    join
}

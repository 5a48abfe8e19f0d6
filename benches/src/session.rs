//! A loaded model behind a running engine, as a user's server would hold it, and one call to it.

use anyhow::{Context, anyhow};
use engine::{
    Clock, Composition, Config, Counts, Disk, DiskConfig, Engine, Event, JoinPolicy, Origin,
    Priority, Request, Sampling, Tier, Timings,
};
use models::{LoadOptions, Model as _, ModelInfo, TokenId};
use std::{
    path::Path,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

/// An engine over one model.
pub(crate) struct Session {
    pub(crate) engine: Engine,
    pub(crate) info: ModelInfo,
    pub(crate) root: Arc<[TokenId]>,
    pub(crate) load_s: f64,
    /// Bytes of weights in memory, and those that decoding one token reads.
    pub(crate) weight_bytes: usize,
    pub(crate) weight_bytes_per_token: usize,
    /// Products of a weight and an activation that prefilling one token takes.
    pub(crate) layer_products: usize,
    /// Products that attention of one token takes for each token it looks back at.
    pub(crate) attention_products: usize,
}

/// The machine's clock, from when the engine started.
struct Monotonic(Instant);

impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// More than any bench keeps.
const DISK_BYTES: u64 = 16 << 30;

/// What one generation did.
pub(crate) struct Answer {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) counts: Counts,
    pub(crate) timings: Timings,
    pub(crate) recomputed_share: f64,
}

impl Session {
    /// Fetches and loads `model` with `threads` (0: physical cores) and starts an engine.
    pub(crate) fn open(model: &str, options: &LoadOptions) -> anyhow::Result<Self> {
        Self::open_with(model, options, Config::default())
    }

    /// The same with bounds of the engine.
    pub(crate) fn open_with(
        model: &str,
        options: &LoadOptions,
        config: Config,
    ) -> anyhow::Result<Self> {
        Self::start(model, options, config, None)
    }

    /// The same with KV kept in a folder.
    pub(crate) fn open_over(
        model: &str,
        options: &LoadOptions,
        config: Config,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        Self::start(model, options, config, Some(folder))
    }

    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    fn start(
        model: &str,
        options: &LoadOptions,
        config: Config,
        folder: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let path = models::catalogue::fetch(model, &mut models::catalogue::Quiet)?;
        let begun = Instant::now();
        let loaded = models::load(&path, options)?;
        let load_s = begun.elapsed().as_secs_f64();
        let root = loaded.turns.default_root().into();
        let info = loaded.info;
        let decoder = &loaded.decoder;
        let (weight_bytes, layer_products) = (decoder.weight_bytes(), decoder.layer_products());
        let weight_bytes_per_token = decoder.weight_bytes_per_token();
        let attention_products = decoder.attention_products();
        let clock: Arc<dyn Clock> = Arc::new(Monotonic(Instant::now()));
        let shape = decoder.shape();
        let disk = |folder: &Path| DiskConfig {
            dir: folder.to_owned(),
            bytes_max: DISK_BYTES,
            origin: Origin::new(shape, &info.name, options.kv_dtype),
        };
        let disk = folder.map(|folder| Disk::open(disk(folder), clock.clone())).transpose()?;
        let engine = Engine::start_over(
            Box::new(loaded.decoder),
            Some(loaded.tokenizer),
            config,
            clock,
            disk.map(|disk| -> Box<dyn Tier> { Box::new(disk) }),
        );
        Ok(Self {
            engine,
            info,
            root,
            load_s,
            weight_bytes,
            weight_bytes_per_token,
            layer_products,
            attention_products,
        })
    }

    /// Tokens per second of prefilling `length` tokens never seen before.
    pub(crate) fn prefill(&self, seed: u64, length: usize) -> anyhow::Result<f64> {
        let tail = self.filler(seed, length);
        let answer = self.generate(self.plain(tail), JoinPolicy::Recompute, 1)?;
        // The root comes from the cache; the tail is all new.
        Ok(answer.counts.tail as f64 / answer.timings.prefill_ms * 1e3)
    }

    /// Tokens per second of decoding `tokens` tokens behind `depth` others, and the tokens.
    pub(crate) fn decode(
        &self,
        depth: usize,
        tokens: usize,
    ) -> anyhow::Result<(f64, Vec<TokenId>)> {
        // The same tail each time: only the first one prefills it.
        let tail = self.filler(1 << 20, depth.max(1));
        let answer = self.generate(self.plain(tail), JoinPolicy::Recompute, tokens)?;
        Ok((answer.timings.decode_tokens_per_second, answer.tokens))
    }

    /// A composition of root and tail only.
    fn plain(&self, tail: Vec<u32>) -> Composition {
        Composition { root: self.root.clone(), placements: Vec::new(), tail }
    }

    /// Runs one greedy generation of exactly `max_tokens` tokens and waits for its end.
    pub(crate) fn generate(
        &self,
        composition: Composition,
        policy: JoinPolicy,
        max_tokens: usize,
    ) -> anyhow::Result<Answer> {
        let (sender, events) = mpsc::channel();
        let request = Request {
            tenant: "bench".into(),
            composition,
            policy,
            selected: None,
            sampling: Sampling::greedy(),
            stop_tokens: Vec::new(),
            stop_strings: Vec::new(),
            max_tokens,
            logprobs: None,
            echo: false,
            priority: Priority::Normal,
            seal: None,
        };
        self.engine.submit(request, Box::new(move |event| sender.send(event).is_ok()))?;
        let mut tokens = Vec::new();
        loop {
            match events.recv_timeout(Duration::from_mins(10)).context("the engine fell silent")? {
                Event::Token { token, .. } => tokens.push(token),
                Event::Chosen { .. }
                | Event::Scored { .. }
                | Event::Swapped { .. }
                | Event::Restarted { .. } => {}
                Event::Finished { summary, .. } => {
                    let (counts, timings) = (summary.counts, summary.timings);
                    let recomputed_share = summary.recomputed_share;
                    return Ok(Answer { tokens, counts, timings, recomputed_share });
                }
                Event::Failed(error) => return Err(anyhow!(error)),
            }
        }
    }

    /// Tokens that look like text to a cache: below the vocabulary, never twice the same run.
    pub(crate) fn filler(&self, seed: u64, count: usize) -> Vec<TokenId> {
        // Ordinary tokens start after the specials, which stand first in every vocabulary here.
        let (low, high) = (300, self.engine.shape().vocab.min(30_000) as u64);
        (0..count as u64)
            .map(|i| {
                let mut x = (seed << 32 | i).wrapping_add(0x9E37_79B9_7F4A_7C15);
                x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                (low + (x ^ (x >> 31)) % (high - low)) as TokenId
            })
            .collect()
    }
}

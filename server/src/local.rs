//! A model loaded into this process, and an engine over it: what the commands run on.

use crate::{
    Bytes, CacheConfig, EngineConfig, FetchProgress, FragmentNames, ServeConfig, Time, host_memory,
};
use anyhow::{Context as _, anyhow};
use engine::{
    Config, Disk, DiskConfig, Engine, Event, Host, Layered, Origin, Request, SHARED_ROWS_MIN,
    Shared, SharedConfig, StoreUrl, Summary, Tier,
};
use models::{LoadOptions, Loaded, Model as _, ModelInfo, Opened, TokenId, Tokenizer, Turns};
use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

/// Longest silence of the engine before a command gives up.
const SILENCE_MAX: Duration = Duration::from_mins(10);

/// Which setting an error is about.
const CACHE_DIR: &str = "--cache-dir";
/// The same.
const CACHE_URL: &str = "--cache-url";

/// An engine and what turns text into its tokens and back.
pub struct Local {
    /// The engine.
    pub engine: Engine,
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The model's chat template.
    pub turns: Turns,
    /// The model's name, sizes and settings.
    pub info: ModelInfo,
}

/// A finished generation.
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) summary: Summary,
}

/// Fetches the model where needed, and loads it.
pub fn load(config: &EngineConfig) -> anyhow::Result<Loaded> {
    load_checked(config, |_| Ok(()))
}

/// The same, with what can be refused between reading the files and the wait for the weights.
pub(crate) fn load_checked(
    config: &EngineConfig,
    check: impl FnOnce(&Opened) -> anyhow::Result<()>,
) -> anyhow::Result<Loaded> {
    let path = models::catalogue::fetch(&config.model, &mut FetchProgress::new())?;
    let defaults = LoadOptions::default();
    let options = LoadOptions {
        device: config.device,
        threads: config.threads,
        isa: config.isa,
        kv_dtype: config.kv_dtype,
        kv_bytes: config.kv_bytes(),
        kv_bytes_gpu: config.kv_memory.map(|_| config.kv_bytes()),
        context_max: config.context,
        ..defaults
    };
    let opened = Opened::new(&path, &options);
    let opened = opened.with_context(|| format!("loading {}", path.display()))?;
    check(&opened)?;
    let loaded = opened.load().with_context(|| format!("loading {}", path.display()))?;
    for note in &loaded.info.notes {
        tracing::info!("{note}");
    }
    Ok(loaded)
}

/// Memory of this machine that a loaded model's KV may take beyond the engine's pages.
pub fn host_kv(loaded: &Loaded, config: &ServeConfig) -> Bytes {
    let share = || if loaded.decoder.is_on_gpu() { host_memory::available() / 4 } else { 0 };
    config.host_kv_memory.unwrap_or_else(|| Bytes(share()))
}

/// Where a loaded model's KV is kept beyond the engine's pages: so much of this machine's memory, a
/// disk and a store that servers share, each before those that are farther; or nowhere.
///
/// # Errors
/// Another server has the disk's folder, a folder cannot be written to, the settings of the store
/// make no sense, or the machine has no thread to give.
pub fn tier(
    loaded: &Loaded,
    config: &ServeConfig,
    host: Bytes,
) -> anyhow::Result<Option<Box<dyn Tier>>> {
    let disk = disk_config(loaded, config).map(disk).transpose()?;
    let url = config.cache_url.as_ref();
    let shared = url.map(|url| shared(url, origin(loaded, config))).transpose()?;
    let lasting: Option<Box<dyn Tier>> = match (disk, shared) {
        (Some(near), Some(far)) => Some(Box::new(Layered::new(near, far))),
        (disk, shared) => disk.or(shared),
    };
    if host.0 == 0 {
        return Ok(lasting);
    }
    let host = Host::open(host.0, Time::system().clock()).context("--host-kv-memory")?;
    Ok(Some(match lasting {
        Some(far) => Box::new(Layered::of_memory(Box::new(host), far)),
        None => Box::new(host),
    }))
}

/// Names of fragments: beside their KV, where that is kept on disk. Blocking; after [`tier`], which
/// takes the folder for this process.
pub(crate) fn fragment_names(loaded: &Loaded, config: &ServeConfig) -> FragmentNames {
    let disk = disk_config(loaded, config);
    disk.map_or_else(FragmentNames::new, |disk| FragmentNames::kept_in(&disk.folder()))
}

/// Refuses a shared store that [`tier`] would refuse.
pub(crate) fn check_store(config: &ServeConfig) -> anyhow::Result<()> {
    let url = config.cache_url.as_ref();
    url.map_or(Ok(()), StoreUrl::check).context(CACHE_URL)
}

/// Refuses a folder on disk that [`tier`] would refuse for this model.
pub(crate) fn check_disk(opened: &Opened, config: &ServeConfig) -> anyhow::Result<()> {
    let check = |cache: &CacheConfig| Disk::check(&cache.dir, opened.fingerprint());
    config.cache.as_ref().map_or(Ok(()), check).context(CACHE_DIR)
}

fn origin(loaded: &Loaded, config: &ServeConfig) -> Origin {
    Origin::new(loaded.decoder.shape(), &loaded.info.name, config.engine.kv_dtype)
}

fn disk_config(loaded: &Loaded, config: &ServeConfig) -> Option<DiskConfig> {
    let CacheConfig { dir, bytes } = config.cache.clone()?;
    Some(DiskConfig { dir, bytes_max: bytes.0, origin: origin(loaded, config) })
}

fn disk(config: DiskConfig) -> anyhow::Result<Box<dyn Tier>> {
    Ok(Box::new(Disk::open(config, Time::system().clock()).context(CACHE_DIR)?))
}

fn shared(url: &StoreUrl, origin: Origin) -> anyhow::Result<Box<dyn Tier>> {
    let config = SharedConfig { url: url.clone(), origin, rows_min: SHARED_ROWS_MIN };
    Ok(Box::new(Shared::open(config, Time::system().clock()).context(CACHE_URL)?))
}

impl Local {
    /// Starts an engine over a loaded model.
    pub fn start(loaded: Loaded, config: &EngineConfig) -> Self {
        Self::start_over(loaded, config, None)
    }

    /// The same over a tier that keeps KV beyond memory.
    pub fn start_over(loaded: Loaded, config: &EngineConfig, tier: Option<Box<dyn Tier>>) -> Self {
        let Loaded { decoder, tokenizer, turns, info } = loaded;
        let mut bounds = Config {
            waiting_max: config.waiting_max,
            running_max: config.running_max,
            ..Config::default()
        };
        if decoder.is_on_gpu() {
            // As many as keep it busy; those that decode go first all the same.
            bounds.prefill_rows_per_step = decoder.shape().batch_rows_max;
        }
        let clock = Time::system().clock();
        let texts = Some(tokenizer.clone());
        let engine = Engine::start_over(Box::new(decoder), texts, bounds, clock, tier);
        Self { engine, tokenizer, turns, info }
    }

    /// Runs one generation to its end; `on_text` gets the text as it comes.
    pub(crate) fn ask(
        &self,
        request: Request,
        mut on_text: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Answer> {
        let (sender, events) = mpsc::channel();
        self.engine.submit(request, Box::new(move |event| sender.send(event).is_ok()))?;
        let (mut text, mut tokens) = (String::new(), Vec::new());
        loop {
            match events.recv_timeout(SILENCE_MAX).context("the engine fell silent")? {
                Event::Chosen { .. }
                | Event::Scored { .. }
                | Event::Swapped { .. }
                | Event::Restarted { .. } => {}
                Event::Token { token, text: piece, .. } => {
                    tokens.push(token);
                    on_text(&piece)?;
                    text.push_str(&piece);
                }
                Event::Finished { text: rest, summary } => {
                    on_text(&rest)?;
                    text.push_str(&rest);
                    return Ok(Answer { text, tokens, summary });
                }
                Event::Failed(error) => return Err(anyhow!(error)),
            }
        }
    }
}

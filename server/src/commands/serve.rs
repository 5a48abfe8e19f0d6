//! `cento serve`: loads the model, starts the engine, serves HTTP until told to stop.

use crate::{
    AppState, Bytes, Ended, Limits, Local, ModelInfo, Parts, Profile, Time, config::ServeConfig,
    local, serving::serve,
};
use anyhow::Context as _;
use engine::Engine;
use std::{future::Future, net::SocketAddr, process, sync::Arc};
use tokio::{net::TcpListener, runtime};

/// Serves until interrupted, then lets running streams end.
pub(crate) fn run(config: ServeConfig) -> anyhow::Result<()> {
    // Bound before the model is loaded: a port in use should not cost that wait. Nor should what else
    // would be refused behind it.
    let listener = std::net::TcpListener::bind(config.address)
        .with_context(|| format!("cannot listen on {}", config.address))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;

    let time = Time::system();
    local::check_store(&config)?;
    let loaded = local::load_checked(&config.engine, |opened| {
        local::check_disk(opened, &config)?;
        Profile::load(opened.fingerprint()).map(drop)
    })?;
    let host_kv = local::host_kv(&loaded, &config);
    let tier = local::tier(&loaded, &config, host_kv)?;
    let fragment_names = local::fragment_names(&loaded, &config);
    let local = Local::start_over(loaded, &config.engine, tier);
    let profile = Profile::load(&local.engine.shape().fingerprint)?;
    let name = client_name(&config.engine.model);
    let ready = ready_line((address, &name), &local, &config, host_kv);
    let state = AppState::new(Parts {
        model: ModelInfo { id: name, arch: local.info.arch, created: time.unix_seconds() },
        engine: local.engine,
        tokenizer: local.tokenizer,
        turns: Arc::new(local.turns),
        keys: config.api_keys,
        limits: Limits {
            body_bytes_max: config.body_bytes_max,
            response_timeout: config.request_timeout,
        },
        profile,
        time,
        allowed: config.allowed,
        fragment_names,
    });

    // Connections take little; the cores are for the engine.
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let stop = stop_signal()?;
        eprintln!("{ready}");
        serve(listener, state, stop, config.grace).await.map_err(anyhow::Error::from)
    })?;
    anyhow::ensure!(ended == Ended::Told, "the engine's loop died; its log line above says why");
    eprintln!("stopped");
    Ok(())
}

/// What is served, where and with what.
fn ready_line(
    (address, name): (SocketAddr, &str),
    local: &Local,
    config: &ServeConfig,
    host_kv: Bytes,
) -> String {
    let Local { engine, info, .. } = local;
    let host =
        if host_kv.0 > 0 { format!(" · {host_kv} of memory behind it") } else { String::new() };
    let keys = if config.api_keys.is_open() { "no API key" } else { "API keys" };
    let disk = config.cache.as_ref().map_or_else(String::new, |cache| {
        let kept = engine.stats().fragments_stored;
        format!(" · {} on disk in {}, {kept} records there", cache.bytes, cache.dir.display())
    });
    let shared =
        config.cache_url.as_ref().map_or_else(String::new, |url| format!(" · shared at {url}"));
    format!(
        "cento {} ready on http://{address} · {name} ({}, {}) · KV {}{host}{disk}{shared} · {} · {keys}",
        env!("CARGO_PKG_VERSION"),
        info.arch,
        info.quantization,
        kv(engine),
        super::doctor::device(info, &config.engine),
    )
}

/// What clients call the model: its catalogue name, or its file's name without the ending.
fn client_name(asked: &str) -> String {
    let file = asked.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or(asked);
    let endings = [".gguf", ".safetensors"];
    let stem = endings.iter().find_map(|ending| file.strip_suffix(ending)).unwrap_or(file);
    stem.to_owned()
}

/// The KV memory, in bytes and in tokens.
fn kv(engine: &Engine) -> String {
    let shape = engine.shape();
    let bytes = Bytes((shape.pages * shape.page_bytes) as u64);
    format!("{bytes} for {} tokens", shape.pages * shape.page_rows)
}

/// Ready at the first SIGINT or SIGTERM; a second one ends the process at once.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut signals = Signals::new()?;
    let (told, tell) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        signals.next().await;
        eprintln!("stopping: running generations may end; once more stops at once");
        // The receiver is gone only when serving has ended already.
        let _ = told.send(());
        signals.next().await;
        // What a shell reports for a process ended by SIGINT.
        process::exit(130);
    });
    Ok(async move {
        let _ = tell.await;
    })
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        // An error means that signals cannot be heard: then only closing the window stops us.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

//! Serving on a socket, from the first connection to a clean end.

use crate::{
    AppState, app,
    limits::{DRAIN_TIMEOUT, ENGINE_WATCH_INTERVAL, FRAGMENT_NAMES_SAVE_INTERVAL, HEALTH_TIMEOUT},
    side::upkeep,
};
use axum::serve::ListenerExt as _;
use std::{
    future::{Future, IntoFuture as _},
    io,
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, sync::oneshot};

/// Why serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop.
    Told,
    /// The engine's loop died: what it held cannot be trusted any more.
    EngineDied,
}

/// Serves until `stop` is ready. Then takes no more connections, lets generations end for at most
/// `grace`, cancels the rest (their streams end with a terminal event), and waits for the last
/// bytes to be written.
pub async fn serve(
    listener: TcpListener,
    state: Arc<AppState>,
    stop: impl Future<Output = ()>,
    grace: Duration,
) -> io::Result<Ended> {
    // Events are small, and each is wanted at once.
    let listener = listener.tap_io(|socket| {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "a socket keeps delaying small writes");
        }
    });
    let (close, closed) = oneshot::channel::<()>();
    let server = axum::serve(listener, app(Arc::clone(&state))).with_graceful_shutdown(async {
        // An error means that `close` was dropped, which means the same.
        let _ = closed.await;
    });
    let mut server = tokio::spawn(server.into_future());
    let keeper = tokio::spawn(upkeep(Arc::clone(&state)));
    let saver = tokio::spawn(save_names_for_ever(Arc::clone(&state)));
    let ended = tokio::select! {
        () = stop => Ended::Told,
        () = engine_death(&state) => Ended::EngineDied,
        result = &mut server => {
            // Only a closed listener ends it by itself.
            return result.map_err(io::Error::other)?.map(|()| Ended::Told);
        }
    };
    keeper.abort();
    state.side_contexts.close();
    drop(close);
    let engine = state.engine.clone();
    let drained = tokio::task::spawn_blocking(move || engine.shutdown(grace)).await;
    if let Err(error) = drained {
        tracing::error!(%error, "the engine did not stop cleanly");
    }
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, &mut server).await;
    saver.abort();
    save_names(&state).await;
    if let Ok(result) = drained {
        result.map_err(io::Error::other)??;
    } else {
        tracing::warn!("some clients did not read their last bytes in time");
        server.abort();
    }
    Ok(ended)
}

/// Keeps the file of fragments' names up to date.
async fn save_names_for_ever(state: Arc<AppState>) {
    loop {
        tokio::time::sleep(FRAGMENT_NAMES_SAVE_INTERVAL).await;
        save_names(&state).await;
    }
}

async fn save_names(state: &Arc<AppState>) {
    let state = Arc::clone(state);
    let saved = tokio::task::spawn_blocking(move || state.fragment_names.save()).await;
    if let Err(error) = saved {
        tracing::error!(%error, "names of fragments were not saved");
    }
}

/// Ready when the engine's loop is gone; a loop that is only slow is waited for.
async fn engine_death(state: &AppState) {
    loop {
        tokio::time::sleep(ENGINE_WATCH_INTERVAL).await;
        let (engine, time) = (state.engine.clone(), state.time.clone());
        let dead = tokio::task::spawn_blocking(move || {
            let start = time.now();
            // A loop that is gone says so at once; a slow one uses up the time.
            !engine.is_alive(HEALTH_TIMEOUT)
                && time.now().saturating_sub(start) < HEALTH_TIMEOUT / 2
        });
        if dead.await.unwrap_or(true) {
            return;
        }
    }
}

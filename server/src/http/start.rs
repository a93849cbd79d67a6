//! Opens the port, serves, and shuts the daemon down.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use futures_util::StreamExt;
use milepost_runtime::Error as RuntimeError;
use milepost_service::EventKind;
use tokio_util::sync::CancellationToken;

use crate::config::ServeConfig;
use crate::http::errors::{Error, Result};
use crate::http::state::App;
use crate::http::{listen, router};

/// How long open connections get to end once the queue is drained: those of followers, and of requests in flight.
const CONNECTION_GRACE: Duration = Duration::from_secs(3);

/// An open port that does not accept connections yet.
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<RustlsConfig>,
}

impl Listener {
    /// Reads the certificate and opens the port, so that a wrong setting is reported before a model is loaded.
    ///
    /// # Errors
    /// The certificate cannot be read, other machines could reach the address without `serve.allow_remote`, or the port is in use.
    pub async fn open(config: &ServeConfig) -> Result<Self> {
        let tls = match &config.tls {
            Some(tls) => Some(listen::certificate(tls).await?),
            None => None,
        };
        listen::raise_file_limit();
        let (listener, address) = listen::bind(config)?;
        Ok(Self { listener, address, tls })
    }
}

/// Serves requests until the token is cancelled, and then drains the queue. The address is written to `ready_file` once the daemon accepts tasks.
///
/// # Errors
/// The ready file cannot be written, the server fails, or the queue cannot be drained.
pub async fn serve(app: App, listener: Listener, ready_file: Option<&Path>, stop: CancellationToken) -> Result<()> {
    let Listener { listener, address, tls } = listener;
    let handle = Handle::new();
    let mut serving = tokio::spawn({
        let (app, handle) = (app.clone(), handle.clone());
        async move { listen::serve(listener, tls, router::router(&app), &app.settings.serve, handle).await }
    });
    tokio::spawn(app.improvement.clone().follow_registry());
    if app.settings.serve.live.is_some() || app.settings.serve.canary.is_some() {
        tokio::spawn(watch_outcomes(app.clone()));
    }
    app.set_ready(true);
    let scheme = if app.settings.serve.tls.is_some() { "https" } else { "http" };
    announce(&format!("{scheme}://{address}"), ready_file)?;
    let failed = |error: tokio::task::JoinError| Error::Setup(format!("the server failed: {error}"));
    tokio::select! {
        () = stop.cancelled() => {}
        ended = &mut serving => {
            ended.map_err(failed)??;
            return Err(RuntimeError::Environment("the server ended by itself; its log says why".into()).into());
        }
    }
    drain(&app, &handle).await?;
    match tokio::time::timeout(CONNECTION_GRACE + Duration::from_secs(1), serving).await {
        Ok(ended) => ended.map_err(failed)??,
        Err(_) => tracing::warn!("some connections did not end"),
    }
    Ok(())
}

/// Reports the daemon's address in the ready file, in the log and on stderr.
fn announce(address: &str, ready_file: Option<&Path>) -> Result<()> {
    if let Some(file) = ready_file {
        let mut draft = file.as_os_str().to_owned();
        draft.push(".new");
        let written = std::fs::write(&draft, format!("{address}\n")).and_then(|()| std::fs::rename(&draft, file));
        written.map_err(|error| RuntimeError::BadInput(format!("the ready file {} cannot be written: {error}", file.display())))?;
    }
    tracing::info!(address, "ready");
    eprintln!("milepost: ready at {address}");
    Ok(())
}

/// Accepts no more tasks, waits for the running ones up to `service.drain_seconds`, and asks the connections to close.
async fn drain(app: &App, handle: &Handle<SocketAddr>) -> Result<()> {
    app.set_ready(false);
    let bound = app.settings.drain;
    tracing::info!(seconds = bound.as_secs(), "draining");
    let (drained, ()) = tokio::join!(app.service.drain(bound), app.improvement.end());
    let drained = drained?;
    tracing::info!(finished = drained.finished, requeued = drained.requeued, interrupted = drained.interrupted, "drained");
    handle.graceful_shutdown(Some(CONNECTION_GRACE));
    Ok(())
}

/// Passes outcomes that tasks' own checks verified to the deployment. Outcomes that people verify reach it with their feedback.
async fn watch_outcomes(app: App) {
    let last = app.service.recent_events(1).await.ok().and_then(|events| events.last().map(|event| event.position));
    let mut events = app.service.all_events(last.unwrap_or(0));
    while let Some(event) = events.next().await {
        let Ok(event) = event else { continue };
        if let EventKind::Ended { success: Some(success), .. } = event.kind
            && let Ok(task) = app.service.get(&event.task).await
            && let Some(episode) = &task.episode
        {
            app.deployment.outcome(episode, success).await;
        }
    }
}

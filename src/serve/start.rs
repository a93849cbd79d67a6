//! Starting and ending the daemon.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use axum_server::Handle;
use milepost_runtime::Error;
use milepost_service::{Ports, Service};
use milepost_tools::mcp::McpTools;
use tokio::sync::watch;

use super::auth::{Doors, Sessions, Tokens};
use super::canary::{self, Canary};
use super::deliver::Post;
use super::improve::{self, Improvement};
use super::live::{self, LiveWatch};
use super::metered::MeteredEngine;
use super::requests::Requests;
use super::runner::BrowserRunner;
use super::{App, Parts, directory, listen, observability, router, telemetry, token_file, web};
use crate::config::Config;
use crate::exit::Exit;
use crate::wiring::{self, Mind};

/// Followers and requests in flight have so long once the tasks are done.
const CONNECTIONS_END: Duration = Duration::from_secs(3);

/// What only the command line says.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The file that the address is written to when the daemon is ready.
    pub ready_file: Option<PathBuf>,
    /// What to log.
    pub log: String,
}

/// Runs the daemon until it is told to end.
///
/// # Errors
/// A port, token file, model, certificate or directory that cannot be used.
pub async fn serve(config: Config, start: Start, mut stop: watch::Receiver<bool>) -> Result<Exit> {
    let telemetry = telemetry::start(&config.serve, &start.log)?;
    let ended = run(config, &start, &mut stop).await;
    if let Some(file) = &start.ready_file {
        let _ = std::fs::remove_file(file);
    }
    let _ = tokio::task::spawn_blocking(move || telemetry.end()).await;
    ended
}

async fn run(config: Config, start: &Start, stop: &mut watch::Receiver<bool>) -> Result<Exit> {
    wiring::check_model(&config).map_err(|error| error.context(crate::commands::BadConfig))?;
    if let Some(canary) = &config.serve.canary {
        canary.check().map_err(|error| anyhow::Error::from(error).context(crate::commands::BadConfig))?;
    }
    let triggers = improve::triggers(&config.serve.improve)?;
    let tls = match &config.serve.tls {
        Some(tls) => Some(listen::certificate(tls).await?),
        None => None,
    };
    listen::raise_file_limit();
    let (listener, address) = listen::bind(&config.serve)?;
    let app = tokio::select! {
        app = assemble(config) => app?,
        _ = stop.wait_for(|stop| *stop) => return Ok(Exit::Cancelled),
    };
    let handle = Handle::new();
    let mut serving = tokio::spawn({
        let (app, handle) = (app.clone(), handle.clone());
        async move { listen::serve(listener, tls, router::router(&app), &app.config.serve, handle).await }
    });
    for (reason, trigger) in triggers {
        tokio::spawn(improve::watch(app.clone(), reason, trigger));
    }
    tokio::spawn(improve::follow_registry(app.clone()));
    if app.config.serve.live.is_some() || app.config.serve.canary.is_some() {
        tokio::spawn(live::follow(app.clone()));
    }
    app.ready.store(true, Ordering::Release);
    let scheme = if app.config.serve.tls.is_some() { "https" } else { "http" };
    announce(&format!("{scheme}://{address}"), start.ready_file.as_deref())?;
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        ended = &mut serving => {
            ended??;
            anyhow::bail!(Error::Environment("the server ended by itself; its log says why".into()));
        }
    }
    drain(&app, &handle).await?;
    match tokio::time::timeout(CONNECTIONS_END + Duration::from_secs(1), serving).await {
        Ok(Ok(ended)) => ended?,
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => tracing::warn!("some connections did not end"),
    }
    Ok(Exit::Done)
}

/// Puts the daemon together.
pub(super) async fn assemble(config: Config) -> Result<App> {
    let home = directory(&config);
    std::fs::create_dir_all(&home)
        .with_context(|| format!("{} cannot be made; give the daemon another `serve.directory`", home.display()))?;
    let token_file = token_file(&config);
    let (tokens, made) = Tokens::open(&token_file, &home)?;
    if made {
        eprintln!("milepost: a token was made; it is in {}", token_file.display());
    }
    let metrics = observability::recorder()?;
    let store = Arc::new(wiring::store(&config).await?);
    let model = config.model().to_owned();
    let registry = wiring::registry(&config);
    let adapter = canary::at_start(&config, &home, &registry).await?;
    let canary = Arc::new(Canary::new(&config, &home));
    let mind = Mind::load(&Config { adapter, ..config.clone() }).await?.through(|engine| Arc::new(MeteredEngine::new(engine, &model)));
    let (mind, requests) = (Arc::new(mind), Arc::new(Requests::default()));
    let mcp = McpTools::connect(&config.mcp).await?;
    let runner = BrowserRunner::new(&config, mcp, mind.clone(), canary.clone(), store.clone(), requests.clone())
        .map_err(|error| error.context(crate::commands::BadConfig))?;
    let timeout = Duration::from_secs(config.service.webhooks.timeout_seconds);
    let deliver = Arc::new(Post::new(&config.serve.webhook_hosts, timeout).await?);
    let ports = Ports { runner: Arc::new(runner), episodes: store.clone(), deliver };
    let service = Service::open(&home, config.service.clone(), ports).await?;
    Ok(App::new(Parts {
        service,
        mind,
        registry,
        canary,
        store,
        tokens,
        sessions: Sessions::default(),
        doors: Doors::new(&config.serve),
        metrics,
        improvement: Improvement::new(home.clone(), &config.serve.improve),
        live: LiveWatch::new(config.serve.live.clone(), home.join("live.json")),
        requests,
        sign_in_page: Some(web::sign_in),
        ready: AtomicBool::new(false),
        config,
    }))
}

/// Says where the daemon is, once it takes work.
fn announce(address: &str, ready_file: Option<&Path>) -> Result<()> {
    if let Some(file) = ready_file {
        let mut draft = file.as_os_str().to_owned();
        draft.push(".new");
        let written = std::fs::write(&draft, format!("{address}\n")).and_then(|()| std::fs::rename(&draft, file));
        written.map_err(|error| Error::BadInput(format!("the ready file {} cannot be written: {error}", file.display())))?;
    }
    tracing::info!(address, "ready");
    eprintln!("milepost: ready at {address}");
    Ok(())
}

/// Takes nothing more, gives what runs its time, and closes the doors.
async fn drain(app: &App, handle: &Handle<std::net::SocketAddr>) -> Result<()> {
    app.ready.store(false, Ordering::Release);
    let bound = Duration::from_secs(app.config.service.drain_seconds);
    tracing::info!(seconds = bound.as_secs(), "draining");
    let (drained, ()) = tokio::join!(app.service.drain(bound), app.improvement.end());
    let drained = drained?;
    tracing::info!(finished = drained.finished, requeued = drained.requeued, interrupted = drained.interrupted, "drained");
    handle.graceful_shutdown(Some(CONNECTIONS_END));
    Ok(())
}

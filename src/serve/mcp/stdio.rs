//! `milepost mcp`: the same server over stdio, with a queue and workers in this process and no port.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use rmcp::ServiceExt;
use tokio::sync::watch;

use super::server::Server;
use crate::config::Config;
use crate::exit::Exit;
use crate::serve::auth::{Caller, Scope};
use crate::serve::start::assemble;
use crate::wiring;

/// Serves until the client closes stdin, or `stop` says so.
///
/// # Errors
/// A model, directory or browser that cannot be used; a directory that a running daemon has.
pub async fn run(config: Config, mut stop: watch::Receiver<bool>) -> Result<Exit> {
    wiring::check_model(&config).map_err(|error| error.context(crate::commands::BadConfig))?;
    let app = tokio::select! {
        app = assemble(config) => app?,
        _ = stop.wait_for(|stop| *stop) => return Ok(Exit::Cancelled),
    };
    app.ready.store(true, Ordering::Release);
    let local = Caller { name: "stdio".into(), scope: Scope::Run };
    let server = Server::new(app.clone(), Some(local));
    let running = tokio::select! {
        running = server.serve(rmcp::transport::stdio()) => running.context("the client did not begin as MCP clients do")?,
        _ = stop.wait_for(|stop| *stop) => return Ok(Exit::Cancelled),
    };
    let hang_up = running.cancellation_token();
    tokio::select! {
        _ = running.waiting() => {}
        _ = stop.wait_for(|stop| *stop) => hang_up.cancel(),
    }
    app.ready.store(false, Ordering::Release);
    let bound = Duration::from_secs(app.config.service.drain_seconds);
    let (drained, ()) = tokio::join!(app.service.drain(bound), app.improvement.end());
    drained?;
    Ok(Exit::Done)
}

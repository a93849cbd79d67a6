//! The MCP server over stdin and stdout, with the queue and workers in this process and without a port.

use rmcp::ServiceExt;
use tokio_util::sync::CancellationToken;

use super::server::Server;
use crate::http::auth::{Caller, Scope};
use crate::http::errors::{Error, Result};
use crate::http::state::App;

/// How serving over stdio ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StdioEnd {
    /// The client closed stdin, or the token was cancelled after the client had initialized the session.
    Done,
    /// The token was cancelled before the client had initialized the session.
    Cancelled,
}

/// Serves until the client closes stdin or the token is cancelled, and then drains the queue.
///
/// # Errors
/// The client does not initialize the session as MCP requires, or the queue cannot be drained.
pub async fn serve_stdio(app: App, stop: CancellationToken) -> Result<StdioEnd> {
    app.set_ready(true);
    let caller = Caller { name: "stdio".into(), scope: Scope::Run };
    let server = Server::for_stdio(app.clone(), caller);
    let running = tokio::select! {
        running = server.serve(rmcp::transport::stdio()) => {
            running.map_err(|error| Error::Setup(format!("the client did not begin as MCP clients do: {error}")))?
        }
        () = stop.cancelled() => return Ok(StdioEnd::Cancelled),
    };
    let disconnect = running.cancellation_token();
    tokio::select! {
        _ = running.waiting() => {}
        () = stop.cancelled() => disconnect.cancel(),
    }
    app.set_ready(false);
    let (drained, ()) = tokio::join!(app.service.drain(app.settings.drain), app.improvement.end());
    drained?;
    Ok(StdioEnd::Done)
}

//! The MCP server over streamable HTTP at `/mcp`, behind the daemon's guard. The transport checks hosts and origins once more.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use super::server::Server;
use crate::config::ServeConfig;
use crate::http::auth::Reader;
use crate::http::request::payload;
use crate::http::state::App;

/// All names of loopback.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Returns the route `POST /mcp`. There are no MCP sessions: nothing is kept between requests, so that clients survive a restart of the daemon,
/// and GET and DELETE, which act on sessions, are not needed.
pub(crate) fn routes(app: &App) -> Router<App> {
    let server = Server::for_http(app.clone());
    let service =
        StreamableHttpService::new(move || Ok(server.clone()), Arc::new(NeverSessionManager::default()), settings(&app.settings.serve));
    let answer = async move |State(app): State<App>, _: Reader, request: Request| -> Response {
        let (parts, body) = request.into_parts();
        match payload::read_body(Request::from_parts(parts.clone(), body), &app).await {
            Ok(bytes) => service.handle(Request::from_parts(parts, Body::from(bytes))).await.map(Body::new),
            Err(problem) => problem.into_response(),
        }
    };
    Router::new().route("/mcp", post(answer))
}

/// Returns the transport's settings: the hosts and origins that the daemon's own guard accepts, and the limit of the body's size.
fn settings(config: &ServeConfig) -> StreamableHttpServerConfig {
    let names = || LOOPBACK.into_iter().map(str::to_owned).chain(config.allowed_hosts.iter().cloned());
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let own = names().map(|name| match name.trim_start_matches("[::1]").contains(':') {
        true => format!("{scheme}://{name}"),
        false => format!("{scheme}://{name}:*"),
    });
    let others = config.allowed_origins.iter().map(|origin| {
        let port = origin.port_or_known_default().unwrap_or_default();
        format!("{}://{}:{port}", origin.scheme(), origin.host_str().unwrap_or_default())
    });
    StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_allowed_hosts(names())
        .with_allowed_origins(own.chain(others))
        .enforce_origin_validation()
        .with_max_request_body_bytes(config.body_limit)
}

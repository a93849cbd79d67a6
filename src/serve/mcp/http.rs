//! Streamable HTTP at `/mcp`, behind the daemon's own guard; hosts and origins are checked by the transport once more.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as Of};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use super::server::Server;
use crate::serve::auth::Reader;
use crate::serve::config::ServeConfig;
use crate::serve::{App, payload};

/// Loopback by all its names.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The route. Without sessions nothing is kept between requests, so that a restart cuts no client off; there is nothing to GET or DELETE.
pub(in crate::serve) fn routes(app: &App) -> Router<App> {
    let server = Server::new(app.clone(), None);
    let service =
        StreamableHttpService::new(move || Ok(server.clone()), Arc::new(NeverSessionManager::default()), settings(&app.config.serve));
    let answer = async move |Of(app): Of<App>, _: Reader, request: Request| -> Response {
        let (parts, body) = request.into_parts();
        match payload::body(Request::from_parts(parts.clone(), body), &app).await {
            Ok(bytes) => service.handle(Request::from_parts(parts, Body::from(bytes))).await.map(Body::new),
            Err(problem) => problem.into_response(),
        }
    };
    Router::new().route("/mcp", post(answer))
}

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

//! A connection to a server; if it breaks, the next call opens it again.

use std::collections::HashMap;
use std::time::Duration;

use milepost_runtime::{Error, Result};
use rmcp::model::{CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, Implementation, JsonObject, Tool};
use rmcp::service::{Peer, RoleClient, RunningService};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{ServiceError, ServiceExt};
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::mcp::config::McpServerConfig;

/// The environment variables of this process that a started server inherits.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];

/// An open session with a server.
type Session = RunningService<RoleClient, ClientConfig>;

/// A connection to a server, with the configuration to open it again.
pub(super) struct Connection {
    config: McpServerConfig,
    session: Mutex<Session>,
}

impl Connection {
    /// Connects to the server.
    ///
    /// # Errors
    /// The configuration cannot be used, or the server does not answer in time.
    pub(super) async fn open(config: McpServerConfig) -> Result<Self> {
        let session = Mutex::new(connect(&config).await?);
        Ok(Self { config, session })
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.config.timeout_seconds)
    }

    /// Lists the tools that the server offers.
    pub(super) async fn tools(&self) -> Result<Vec<Tool>> {
        let peer = self.peer().await?;
        with_timeout(self.timeout(), peer.list_all_tools()).await
    }

    /// Calls a tool.
    pub(super) async fn call(&self, tool: &str, arguments: JsonObject) -> Result<CallToolResult> {
        let peer = self.peer().await?;
        let request = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        // The call is not retried, because it is unknown whether an interrupted call was carried out.
        with_timeout(self.timeout(), async {
            match peer.call_tool_once(request).await? {
                rmcp::model::CallToolResponse::Complete(result) => Ok(result),
                _ => Err(ServiceError::UnexpectedResponse),
            }
        })
        .await
    }

    /// Returns the handle for calls to the server; if the connection broke, connects again first.
    async fn peer(&self) -> Result<Peer<RoleClient>> {
        let mut session = self.session.lock().await;
        if session.is_closed() || session.is_transport_closed() {
            tracing::warn!("an MCP server is gone and is connected to again");
            *session = connect(&self.config).await?;
        }
        Ok(session.peer().clone())
    }
}

/// Waits for an answer for at most `timeout`.
async fn with_timeout<T>(timeout: Duration, answer: impl Future<Output = Result<T, ServiceError>>) -> Result<T> {
    match tokio::time::timeout(timeout, answer).await {
        Ok(answer) => answer.map_err(|error| Error::Environment(error.to_string())),
        Err(_) => Err(Error::Environment(format!("it did not answer within {} s (`timeout_seconds`)", timeout.as_secs()))),
    }
}

/// Starts the configured program, or connects to the configured address, and begins a session.
async fn connect(config: &McpServerConfig) -> Result<Session> {
    let timeout = Duration::from_secs(config.timeout_seconds);
    let client = ClientConfig::new(ClientCapabilities::default(), Implementation::new("milepost", env!("CARGO_PKG_VERSION")));
    let connecting = async {
        match (&config.command, &config.url) {
            (Some(command), None) => {
                client.serve(start_server(command, config)?).await.map_err(|error| Error::Environment(format!("{command}: {error}")))
            }
            (None, Some(url)) => {
                let transport = StreamableHttpClientTransport::from_config(http_transport(url.as_str(), config)?);
                client.serve(transport).await.map_err(|error| Error::Environment(format!("{url}: {error}")))
            }
            _ => Err(Error::BadInput("it needs either `command` or `url`".into())),
        }
    };
    match tokio::time::timeout(timeout, connecting).await {
        Ok(session) => session,
        Err(_) => Err(Error::Environment(format!("it did not begin within {} s (`timeout_seconds`)", config.timeout_seconds))),
    }
}

/// Starts a server's program. The process ends when its connection is dropped.
fn start_server(program: &str, config: &McpServerConfig) -> Result<TokioChildProcess> {
    let mut command = Command::new(program);
    command.args(&config.args).env_clear().kill_on_drop(true);
    command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    for (name, value) in &config.env {
        command.env(name, resolve_variable(value)?);
    }
    TokioChildProcess::new(command)
        .map_err(|error| Error::BadInput(format!("{program:?} cannot be started: {error}; give the program's whole path in `command`")))
}

/// Returns the settings of the HTTP transport, with the bearer token where one is configured.
fn http_transport(url: &str, config: &McpServerConfig) -> Result<StreamableHttpClientTransportConfig> {
    let mut transport = StreamableHttpClientTransportConfig::with_uri(url).custom_headers(HashMap::new());
    if let Some(name) = &config.bearer_env {
        transport = transport.auth_header(resolve_variable(&format!("env:{name}"))?);
    }
    Ok(transport)
}

/// Returns a value of the configuration, or the environment variable that it names as `env:VARIABLE`.
fn resolve_variable(value: &str) -> Result<String> {
    match value.strip_prefix("env:") {
        None => Ok(value.to_owned()),
        Some(name) => std::env::var(name).map_err(|_| Error::BadInput(format!("the variable {name} is not set; set it, or take it out"))),
    }
}
